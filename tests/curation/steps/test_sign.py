import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation.catalog.spec import Catalog
from curation.mixture.dedup import DedupSpec
from curation.near.shingle_files import read_shingles
from curation.runtime.pool import InProcessPool
from curation.steps.sign import Sign
from curation.steps.step import Artefact
from curation.storage.store import Store
from tests.support.upstream import NotingPool, content, ingest, picture, rows, write_catalog, write_files

CHATS: dict[str, Any] = {
    "category": "general",
    "layout": "conversations",
    "location": {"root": "data", "files": "a.json"},
    "fields": {"turns": "turns"},
    "images": {"path": "image", "optional": True},
}


def signed(folder: Path, store: Store, records: list[dict], pool: InProcessPool | None = None, **settings: Any) -> Artefact:
    """Signatures of conversations given as lists of turns."""
    numbered = [
        {
            "id": str(number),
            "image": record.get("image"),
            "turns": [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(record["said"])],
        }
        for number, record in enumerate(records)
    ]
    write_files(folder / "data", {"a.json": json.dumps(numbered), "a.png": picture(1, size=(6, 5))})
    ingested = ingest(write_catalog(folder, {"data": CHATS}), "data", store)
    return Sign("data", (), DedupSpec(**settings).signing()).run(ingested, store, pool or InProcessPool())


TALK = {"said": ["<image>\nWhat is it?", "A red box.", "And how large?", "As large as 2 cats."], "image": "a.png"}
TEXT = {"said": ["Say hello.", "Hello there.", "Thanks.", "Welcome."]}


def items(artefact: Artefact) -> pl.DataFrame:
    sets = [read_shingles(path) for path in sorted(artefact.folder.glob("shingles-*.arrow"))]
    counts = [int(size) for found in sets for size in found.edges[1:] - found.edges[:-1]]
    return rows(artefact, "items").with_columns(shingles=pl.Series(counts, dtype=pl.Int64)).sort("pixels", "turn")


def test_whole_samples_are_items(tmp_path: Path, store: Store):
    found = items(signed(tmp_path, store, [TALK, TEXT]))
    assert found["turn"].to_list() == [-1, -1]
    assert found["shingles"].to_list() == [4, 1 + 1 + 1 + 3]
    assert found["pixels"].to_list() == [0, 30]
    assert found["answer_chars"].to_list() == [len("hello there.welcome."), len("a red box.as large as 2 cats.")]
    assert found["number_key"].to_list()[0] == 0 != found["number_key"][1]


def test_turns_are_items_where_there_are_pictures(tmp_path: Path, store: Store):
    found = items(signed(tmp_path, store, [TALK, TEXT], unit="turn"))
    assert found["turn"].to_list() == [-1, 0, 1]
    assert found["shingles"].to_list() == [4, 2, 4]
    assert found["row"][1] == found["row"][2]
    assert found["answer_chars"][1] == found["answer_chars"][2] == len("a red box.as large as 2 cats.")


def test_questions_alone_are_compared_when_asked(tmp_path: Path, store: Store):
    other = {"said": ["Say  HELLO.", "Good day, dear people.", "thanks.", "Bye."]}
    found = items(signed(tmp_path, store, [TALK, TEXT, other], key="question"))
    assert found["answer_key"].unique().to_list() == [0]
    assert found["question_key"].n_unique() == 2
    assert found["shingles"].to_list() == [2, 2, 2]


def test_signatures_depend_on_nothing_but_signing_settings(tmp_path: Path, store: Store):
    first = signed(tmp_path, store, [TALK, TEXT])
    noting = NotingPool()
    same = signed(tmp_path, store, [TALK, TEXT], noting, threshold=0.9, bands=3, conflicts="prefer")
    assert same.folder == first.folder
    assert not noting.tasks
    assert signed(tmp_path, store, [TALK, TEXT], ngram=2).folder != first.folder


def test_frequent_ngrams_are_counted_over_distinct_texts(tmp_path: Path, store: Store):
    records = [{"said": [f"w{number}x w{number}y w{number}z answer in one word", "yes"]} for number in range(40)]
    artefact = signed(tmp_path, store, [*records, *records])
    frequent = rows(artefact, "frequent")
    assert frequent["num_items"].unique().to_list() == [40]
    assert frequent["sampled_items"].unique().to_list() == [40]
    assert len(frequent) == 2 + 1


@pytest.mark.usefixtures("small_pieces")
def test_partitions_change_no_count(world: Catalog, store: Store, tmp_path: Path):
    parts = ingest(world, "sums", store)
    assert len(parts.files("samples")) >= 1
    one = Sign("sums", (), DedupSpec().signing()).run(parts, store, InProcessPool())
    again = Sign("sums", (), DedupSpec().signing()).run(parts, Store.open(str(tmp_path / "other")), InProcessPool())
    assert content(one.folder) == content(again.folder)


def test_a_source_without_samples_has_no_items(tmp_path: Path, store: Store):
    artefact = signed(tmp_path, store, [{"said": ["", ""]}])
    assert artefact.manifest["counts"] in ({"items": [], "shingles": []}, {"items": [0], "shingles": [0]})
    assert len(rows(artefact, "frequent")) == 0
