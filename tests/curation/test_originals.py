"""Sources read from where they were published first, and the commits at which that is."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curation.catalog.file import load_catalog
from curation.catalog.parts import Reader
from curation.catalog.pins import lock_file, pins_text, read_pins
from curation.catalog.spec import ALL_ORIGINALS, Catalog, HubDataset, LocalFiles, ingest_settings
from curation.errors import CatalogError
from curation.inspection.lookup import look_up
from curation.inspection.trial import try_row
from curation.storage.store import Store
from curation.upstream.pinning import pins_of, with_pins
from tests.support.fake_hub import COMMIT, fake_hub
from tests.support.release_world import MIX, PART, release_files
from tests.support.upstream import content, ingest, picture, rows

SHIPPED = Path(__file__).parents[2] / "catalog.yaml"
OTHER = "d" * 40
DATASETS = {"owner/shapes": {"defaults": {"layout": "qa", "fields": {"question": "q", "answer": "a"}}}}
TABLE = pa.table({"q": ["What is it?", "And this?"], "a": ["one", "two"]})


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def document(**row: Any) -> dict[str, Any]:
    """A catalog whose source `dvqa` has rows of a release, and an original of one shape with others."""
    source = {
        "category": "ocr",
        "location": {"release": "cambrian", "source": "dvqa_2325k.json", "folder": "dvqa"},
        "original": {"location": {"hub": "owner/shapes"}},
    }
    upstream = {
        "hub": "owner/release",
        "records": "jsons/*.jsonl",
        "archives": {"default": "{folder}.tar.gz", "far": "hf://datasets/owner/far/x.tar.gz"},
        "defaults": PART,
    }
    coco = {"category": "general", "location": {"release": "cambrian", "source": MIX, "folder": "coco"}}
    return {"upstreams": {"cambrian": upstream}, "datasets": DATASETS, "sources": {"dvqa": source | row, "coco": coco}}


def load(folder: Path, written: dict[str, Any], *originals: str, is_pinned: bool = True) -> Catalog:
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return load_catalog(path, originals, is_pinned=is_pinned)


def refusal(folder: Path, written: dict[str, Any], *originals: str) -> str:
    with pytest.raises(CatalogError) as caught:
        load(folder, written, *originals)
    return str(caught.value)


def test_an_original_is_read_when_it_is_chosen_and_by_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    repositories = {"owner/release": release_files(), "owner/shapes": {"data.parquet": as_parquet(TABLE)}}
    with fake_hub(monkeypatch, repositories):
        store = Store.open(str(tmp_path / "root"))
        from_release = ingest(load(tmp_path, document()), "dvqa", store)
        from_original = ingest(load(tmp_path, document(), "dvqa"), "dvqa", store)
    assert from_release.folder != from_original.folder
    assert [turn["value"] for row in rows(from_original, "samples").to_dicts() for turn in row["conversations"]] == [
        "What is it?", "one", "And this?", "two",
    ]  # fmt: skip
    assert from_release.manifest["inputs"]["is_original"] is False
    assert from_original.manifest["inputs"]["is_original"] is True
    assert from_original.manifest["inputs"]["places"] == [{"hub": "owner/shapes", "commit": COMMIT}]
    [life] = look_up(store, rows(from_original, "samples")["sample_id"][0])
    assert life.fetched == [{"hub": "owner/shapes", "commit": COMMIT, "is_original": True}]


def test_originals_are_chosen_by_name_in_the_catalog_or_all(tmp_path: Path):
    assert not load(tmp_path, document()).source("dvqa").reads_original
    for catalog in (load(tmp_path, document(), "dvqa"), load(tmp_path, document(), ALL_ORIGINALS)):
        assert catalog.source("dvqa").reads_original and not catalog.source("coco").reads_original
    assert load(tmp_path, document() | {"originals": ["dvqa"]}).source("dvqa").reads_original
    twice = load(tmp_path, document() | {"originals": ["dvqa"]}, "dvqa")
    assert twice.source("dvqa") == load(tmp_path, document(), "dvqa").source("dvqa")


def test_what_cannot_be_chosen_is_told(tmp_path: Path):
    assert "source 'coco' names no `original`" in refusal(tmp_path, document(), "coco")
    assert "did you mean 'dvqa'" in refusal(tmp_path, document(), "dvq")
    only_place = document(original={"location": {"hub": "owner/elsewhere"}})
    assert "of its original hub:owner/elsewhere:train@main only the place is known" in refusal(tmp_path, only_place, "dvqa")
    assert not load(tmp_path, only_place, ALL_ORIGINALS).source("dvqa").reads_original
    assert "catalog.yaml:41: originals.0: source 'coco' names no" in refusal(tmp_path, document() | {"originals": ["coco"]})


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (document(original=[]), "sources.dvqa.original: expected a list of parts"),
        (document(original=["x"]), "sources.dvqa.original.0: found no mapping"),
        (document(original={}), "required key 'location' is missing"),
        (document(original={"location": {"hub": "x"}}), "expected the name of a dataset"),
        (document(original={"location": {"hub": "owner/x"}, "layout": "qa"}), "fields"),
        (
            document(original={"location": {"hub": "owner/shapes"}, "fjelds": {}}),
            "unknown key 'fjelds' (did you mean 'fields'?)",
        ),
        (document() | {"datasets": {"owner/x": {"defaults": {"layout": "q"}}}}, "datasets.owner/x.defaults"),
        (document() | {"datasets": {"owner/x": {"revison": "a"}}}, "unknown key 'revison' (did you mean 'revision'?)"),
        (document() | {"datasets": []}, "datasets: expected a mapping"),
        (document() | {"originals": "dvqa"}, "originals"),
        (document(reads_original=True), "unknown key 'reads_original'"),
    ],
)
def test_an_original_that_is_wrong_is_refused(tmp_path: Path, written: dict[str, Any], expected: str):
    assert expected in refusal(tmp_path, written)


def test_rows_of_a_dataset_share_its_revision_but_may_have_their_own(tmp_path: Path):
    shared = document() | {"datasets": {"owner/shapes": {"revision": "v2", **DATASETS["owner/shapes"]}}}
    shared["sources"]["own"] = {"category": "ocr", "location": {"hub": "owner/shapes", "revision": "v1"}}
    catalog = load(tmp_path, shared, "dvqa")
    assert str(catalog.source("dvqa").parts[0].location) == "hub:owner/shapes:train@v2"
    assert str(catalog.source("own").parts[0].location) == "hub:owner/shapes:train@v1"


# --- Commits ------------------------------------------------------------------------------------------------------------


def test_a_branch_is_pinned_to_the_commit_that_was_fetched_or_else_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repositories = {"owner/release": release_files(), "owner/shapes": {"data.parquet": as_parquet(TABLE)}, "owner/far": {}}
    store = Store.open(str(tmp_path / "root"))
    with fake_hub(monkeypatch, repositories) as hub:
        first = ingest(load(tmp_path, document(), "dvqa"), "dvqa", store)
        hub.commits["main"] = OTHER  # later than this root fetched
        catalog = load(tmp_path, document(), is_pinned=False)
        pins = pins_of(catalog, catalog.sources.values(), {}, store.root)
        assert {pin.dataset: pin.commit for pin in pins} == {
            "owner/far": OTHER, "owner/release": OTHER, "owner/shapes": COMMIT,
        }  # fmt: skip
        lock_file(tmp_path / "catalog.yaml").write_text(pins_text(with_pins({}, pins)))
        pinned = load(tmp_path, document(), "dvqa")
        assert str(pinned.source("dvqa").parts[0].location) == f"hub:owner/shapes:train@{COMMIT}"
        assert pinned.upstreams["cambrian"].revision == OTHER
        assert pinned.upstreams["cambrian"].archives["far"] == f"hf://datasets/owner/far@{OTHER}/x.tar.gz"
        assert ingest(pinned, "dvqa", store).folder == first.folder, "pinning what is ingested redoes nothing"

        known = read_pins(tmp_path / "catalog.yaml")
        again = pins_of(catalog, [catalog.source("dvqa")], known, None)
        assert again == pins_of(catalog, catalog.sources.values(), known, store.root)
        anew = pins_of(catalog, [catalog.source("dvqa")], known, store.root, refresh=True)
        assert [(pin.dataset, pin.before, pin.commit) for pin in anew][-1] == ("owner/shapes", COMMIT, OTHER)


def test_archives_at_urls_are_pinned_too_and_redo_nothing(tmp_path: Path):
    images = {"path": "p", "zip": ["hf://datasets/owner/far/x.zip", "http://example.org/y.zip"]}
    whole = {"location": {"hub": "owner/shapes"}, "images": images}
    catalog = load(tmp_path, document(original=whole), is_pinned=False)
    assert ("owner/far", "main") in {(pin.dataset, pin.branch) for pin in pins_of(catalog, [catalog.source("dvqa")], {}, None)}
    unpinned = load(tmp_path, document(original=whole), "dvqa").source("dvqa")
    lock_file(tmp_path / "catalog.yaml").write_text(pins_text({"owner/far": {"main": OTHER}}))
    pinned = load(tmp_path, document(original=whole), "dvqa").source("dvqa")
    found = pinned.parts[0].images
    assert found is not None and found.packed == (f"hf://datasets/owner/far@{OTHER}/x.zip", "http://example.org/y.zip")
    assert ingest_settings(pinned) == ingest_settings(unpinned)


def test_what_the_hub_does_not_tell_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    catalog = load(tmp_path, document(), is_pinned=False)
    known = {"owner/shapes": {"main": COMMIT}, "owner/unrelated": {"v1": OTHER}}
    with fake_hub(monkeypatch, {"owner/release": {}}):
        pins = pins_of(catalog, catalog.sources.values(), known, None, refresh=True)
    assert {pin.dataset: (pin.commit, pin.before) for pin in pins} == {
        "owner/far": (None, None), "owner/release": (COMMIT, None), "owner/shapes": (None, COMMIT),
    }  # fmt: skip
    assert "no such dataset" in str(next(pin.problem for pin in pins if pin.dataset == "owner/far"))
    assert with_pins(known, pins) == known | {"owner/release": {"main": COMMIT}}


def test_pins_read_as_they_were_written(tmp_path: Path):
    pins = {"b/x": {"main": COMMIT, "123": OTHER}, "a/y": {"true": "1" * 40, "v1.2": COMMIT}}
    (tmp_path / "catalog.lock").write_text(pins_text(pins))
    assert read_pins(tmp_path / "catalog.yaml") == pins
    assert read_pins(tmp_path / "other.yaml") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b: {main: abc}", r"catalog\.lock:1: a/b\.main: found 'abc', expected a commit"),
        ("- x", "expected a mapping of datasets"),
        ("a/b: main", "a/b: expected the commit of each branch"),
    ],
)
def test_a_lock_file_that_is_wrong_is_refused(tmp_path: Path, text: str, expected: str):
    (tmp_path / "catalog.lock").write_text(text)
    with pytest.raises(CatalogError, match=expected):
        load(tmp_path, document())


def test_a_revision_is_not_what_names_samples(tmp_path: Path):
    one, other = (
        load(tmp_path, document(original={"location": {"hub": "owner/shapes", "revision": revision}}), "dvqa").source("dvqa")
        for revision in ("main", COMMIT)
    )
    assert ingest_settings(one) == ingest_settings(other)


# --- The shipped rows ---------------------------------------------------------------------------------------------------

BYTES = {"bytes": picture(1), "path": None}
COLUMNS: dict[str, dict[str, Any]] = {
    "Open-Orca/1million-gpt-4": {"system_prompt": "", "question": "Q", "response": "A"},
    "TIGER-Lab/MathInstruct": {"source": "x", "instruction": "Q", "output": "A"},
    "microsoft/orca-math-word-problems-200k": {"question": "Q", "answer": "A"},
    "WizardLMTeam/WizardLM_evol_instruct_V2_196k": {
        "idx": "1",
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
    },
    "m-a-p/Code-Feedback": {
        "id": 1,
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
    },
    "databricks/databricks-dolly-15k": {"instruction": "Q", "context": "", "response": "A", "category": "qa"},
    "vikhyatk/lnqa": {"image": BYTES, "qa": [{"question": "Q", "answer": "A"}]},
    "flaviagiammarino/path-vqa": {"image": BYTES, "question": "Q", "answer": "A"},
    "derek-thomas/ScienceQA": {"image": BYTES, "question": "Q", "choices": ["x", "y"], "answer": 1},
    "HuggingFaceM4/WebSight": {"image": BYTES, "text": "A"},
    "HuggingFaceM4/the_cauldron": {"images": [BYTES], "texts": [{"user": "Q", "assistant": "A", "source": "x"}]},
}
"""A row of each dataset that the shipped catalog says how to read, as public code that reads it has them."""


def test_every_shipped_original_in_columns_maps_a_row_of_them(tmp_path: Path):
    from tests.curation.test_shipped_originals import EXPECTED  # the others

    catalog = load_catalog(SHIPPED, [ALL_ORIGINALS])
    read = {name: source for name, source in catalog.sources.items() if source.reads_original and name not in EXPECTED}
    assert {part.location.hub for source in read.values() for part in source.parts} == set(COLUMNS)  # type: ignore[union-attr]
    for source in read.values():
        [part] = source.parts
        assert isinstance(part.location, HubDataset)
        record = COLUMNS[part.location.hub]
        pq.write_table(pa.Table.from_pylist([record]), tmp_path / "a.parquet")
        here = LocalFiles(root=str(tmp_path), files="a.parquet")
        local = part.model_copy(update={"location": here, "reader": Reader(format="parquet")})
        [sample] = try_row(catalog, source.model_copy(update={"parts": [local]})).samples
        assert sample.turns[-1] == ("gpt", "B" if "choices" in record else "A")
        assert len(sample.images) == sum(name in record for name in ("image", "images"))


def test_a_source_of_the_shipped_catalog_is_read_from_the_cauldron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tests.curation.fetch.test_hub import FEATURES

    catalog = load_catalog(SHIPPED, ["iconqa"])
    [part] = catalog.source("iconqa").parts
    assert isinstance(part.location, HubDataset)
    features = json.loads(FEATURES)
    features["info"]["features"] = {
        "images": {"feature": {"_type": "Image"}, "_type": "Sequence"},
        "texts": [{name: {"dtype": "string", "_type": "Value"} for name in ("user", "assistant", "source")}],
    }
    record = COLUMNS["HuggingFaceM4/the_cauldron"]
    table = pa.Table.from_pylist([record] * 3).replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
    files = {"iconqa/train-00000-of-00001.parquet": as_parquet(table), "README.md": _card("iconqa")}
    with fake_hub(monkeypatch, {"HuggingFaceM4/the_cauldron": files}) as hub:
        hub.commits["main"] = part.location.revision
        artefact = ingest(catalog, "iconqa", Store.open(str(tmp_path / "root")))
    assert artefact.manifest["counts"]["samples"] == 3
    assert artefact.manifest["inputs"]["places"] == [{"hub": "HuggingFaceM4/the_cauldron", "commit": part.location.revision}]
    assert content(artefact.folder)


def _card(config: str) -> bytes:
    return f"""---
configs:
- config_name: {config}
  data_files:
  - {{split: train, path: "{config}/train-*"}}
---
""".encode()
