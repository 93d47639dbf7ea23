"""Every original that the shipped catalog names is read by its row alone, from a Hub and a web that are shaped like theirs."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.file import load_catalog
from curation.catalog.spec import ALL_ORIGINALS, Catalog
from curation.inspection.checking import check_rows, is_wrong
from curation.inspection.trial import TriedSample, try_row
from curation.storage.store import Store
from tests.curation.fetch.test_archives import tar_of
from tests.support.archives import zip_of
from tests.support.fake_hub import FakeHub, fake_hub
from tests.support.http_server import Server, serving
from tests.support.upstream import content, ingest, picture, rows

SHIPPED = Path(__file__).parents[2] / "catalog.yaml"
TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "This."}]
COCO = "http://images.cocodataset.org"
EXPECTED = {
    "allava": 4, "q-instruct": 2, "lvis-instruct4v": 2, "llava150k": 2, "laion-gpt-4v": 2,
    "synthdog": 2, "arxivqa": 2, "design2code": 2, "geo170k": 4, "mathvision": 2,
}  # fmt: skip
"""Samples of each source in the small world; those whose pictures or records do not lie in columns of one table."""


def parquet_of(records: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def talks(*names: str) -> bytes:
    return json.dumps([{"id": str(n), "image": name, "conversations": TALK} for n, name in enumerate(names)]).encode()


def lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def splits(**paths: str) -> bytes:
    files = "".join(f"  - {{split: {split}, path: '{path}'}}\n" for split, path in paths.items())
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n".encode()


def shown(number: int) -> dict[str, Any]:
    return {"bytes": picture(number), "path": None}


def repositories(web: str) -> dict[str, dict[str, bytes]]:
    """Datasets as public code that reads them has them."""
    geo = [{"image": f"geo3k/train/{n}/img_diagram.png", "conversations": TALK} for n in range(2)]
    math = {"image": "images/1.jpg", "solution": None, "level": 1, "subject": "x"}
    return {
        "FreedomIntelligence/ALLaVA-4V": {
            "allava_laion/ALLaVA-Instruct-LAION-4V.json": talks("allava_laion/images/1.jpeg", "allava_laion/images/2.jpeg"),
            "allava_laion/image_chunks/images_0.zip": zip_of({"images/1.jpeg": picture(1, "JPEG")}),
            "allava_laion/image_chunks/images_1.zip": zip_of({"data/images_1/2.jpeg": picture(2, "JPEG")}),
            "allava_vflan/ALLaVA-Instruct-VFLAN-4V.json": talks(
                "allava_vflan/images/images_191task_1k/a.png", "allava_vflan/images/images_191task_1k/b.png"
            ),
        },
        "Vision-Flan/vision-flan_191-task_1k": {
            "image_191-task_1k.zip": zip_of({f"images_191task_1k/{name}.png": picture(n) for n, name in enumerate("ab", 3)})
        },
        "teowu/Q-Instruct": {
            "cleaned_labels.json": talks("spaq_koniq/1.png", "livefb_liveitw_aigc/2.png"),
            "q-instruct-images.tar": tar_of({"spaq_koniq/1.png": picture(5), "livefb_liveitw_aigc/2.png": picture(6)}),
            "qinstruct_qalign.json": talks("none.png"),
        },
        "X2FD/LVIS-Instruct4V": {"lvis_instruct4v_220k.json": talks("coco/train2017/7.jpg", "coco/val2017/8.jpg")},
        "liuhaotian/LLaVA-Instruct-150K": {
            "llava_instruct_150k.json": talks("7.jpg", "9.jpg"),
            "llava_v1_5_mix665k.json": talks("none.png"),
        },
        "laion/gpt4v-dataset": {
            "data.parquet": parquet_of([{"link": f"{web}/{n}.png", "caption": "It is blue.", "message_id": ""} for n in (0, 1)])
        },
        "naver-clova-ix/synthdog-en": {
            "data/train-0.parquet": parquet_of(
                [
                    {"image": shown(n), "ground_truth": json.dumps({"gt_parse": {"text_sequence": f"word {n}"}})}
                    for n in (10, 11)
                ]
            )
        },
        "MMInstruction/ArxivQA": {
            "arxivqa.jsonl": lines(
                *(
                    {"id": f"x-{n}", "image": f"images/{n}.png", "question": "Which?", "options": ["A) a", "B) b"],
                     "label": "B", "rationale": "Since."}
                    for n in (12, 13)
                )
            ),
            "images.tgz": tar_of({f"images/{n}.png": picture(n) for n in (12, 13)}, packed=True),
        },
        "SALT-NLP/Design2Code-hf": {
            "data.parquet": parquet_of([{"image": shown(n), "text": f"<html>{n}</html>"} for n in (14, 15)])
        },
        "Luckyjhg/Geo170K": {
            "README.md": splits(alignment="alignment.jsonl", qa_tuning="qa_tuning.jsonl"),
            "alignment.jsonl": lines(*geo),
            "qa_tuning.jsonl": lines(*geo),
            "images.zip": zip_of({f"images/geo3k/train/{n}/img_diagram.png": picture(16 + n) for n in range(2)}),
        },
        "MathLLMs/MathVision": {
            "README.md": splits(test="data/test-*"),
            "data/test-0.parquet": parquet_of(
                [
                    {"id": "1", "question": "How many?\n<image1>", "options": ["A", "B"], "answer": "B",
                     "decoded_image": shown(18), **math},
                    {"id": "2", "question": "<image1> What is $x$?", "options": [], "answer": "7",
                     "decoded_image": shown(19), **math},
                ]
            ),
        },
    }  # fmt: skip


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving({f"{n}.png": picture(n) for n in range(2)}) as server:
        coco = {"train": {"7.jpg": picture(7, "JPEG"), "9.jpg": picture(9, "JPEG")}, "val": {"8.jpg": picture(8, "JPEG")}}
        for split, pictures in coco.items():
            packed = zip_of({f"{split}2017/{name}": data for name, data in pictures.items()})
            server.files[f"zips/{split}2017.zip"] = packed
        yield server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, web: Server) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, repositories(web.url)) as found:
        found.commits["85a6dca0e2bdc6f0268ae519be8913f83a83cafd"] = "85a6dca0e2bdc6f0268ae519be8913f83a83cafd"
        monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "all")
        yield found


@pytest.fixture
def catalog(tmp_path: Path, web: Server) -> Catalog:
    """The shipped catalog read from its originals, with COCO's server on the loopback."""
    text = SHIPPED.read_text()
    assert COCO in text
    (tmp_path / "catalog.yaml").write_text(text.replace(COCO, web.url))
    return load_catalog(tmp_path / "catalog.yaml", [ALL_ORIGINALS])


def test_all_originals_of_the_shipped_catalog_can_be_read():
    catalog = load_catalog(SHIPPED)
    assert [
        name for name, source in catalog.sources.items() if source.original and None in [o.part for o in source.original]
    ] == []
    assert sum(bool(source.original) for source in catalog.sources.values()) == 40


@pytest.mark.parametrize("name", EXPECTED)
def test_an_original_is_tried_checked_and_ingested(name: str, catalog: Catalog, hub: FakeHub, web: Server, tmp_path: Path):
    assert hub.server is not None
    source = catalog.source(name)
    [document] = check_rows(catalog, [source])
    assert document["state"] in ("reachable", "licence differs"), document
    trial = try_row(catalog, source)
    assert not trial.rejects and len(trial.samples) == EXPECTED[name]
    for record in trial.samples:
        assert isinstance(record, TriedSample)
        assert [picture.note for picture in record.images] == [None]
    store = Store.open(str(tmp_path / "root"))
    artefact = ingest(catalog, name, store)
    assert artefact.manifest["counts"]["samples"] == EXPECTED[name], artefact.manifest["counts"]
    assert artefact.manifest["counts"]["rejected"] == {} and artefact.manifest["counts"]["images"] == EXPECTED[name]
    assert all({"hub", "commit"} <= place.keys() for place in artefact.manifest["inputs"]["places"])
    first, asked = content(artefact.folder), len(hub.server.requests) + len(web.requests)
    assert content(ingest(catalog, name, store).folder) == first
    assert len(hub.server.requests) + len(web.requests) == asked, "what is here is not asked for again"


def test_what_the_rows_say_of_questions_and_answers(catalog: Catalog, hub: FakeHub):
    def turns(name: str) -> list[tuple[str, ...]]:
        return [tuple(text for _, text in sample.turns) for sample in try_row(catalog, catalog.source(name)).samples]

    assert turns("synthdog") == [("<image>\nWhat is written in the image?", f"word {n}") for n in (10, 11)]
    assert turns("arxivqa")[0] == ("<image>\nWhich?\nA) a\nB) b", "B")
    assert turns("mathvision") == [("How many?\n<image>\nA. A\nB. B", "B"), ("<image> What is $x$?", "7")]


def test_one_archive_serves_the_sources_that_share_it(catalog: Catalog, hub: FakeHub, web: Server, tmp_path: Path):
    store = Store.open(str(tmp_path / "root"))
    ingest(catalog, "lvis-instruct4v", store)
    ingest(catalog, "llava150k", store)
    assert [request.path for request in web.requests].count("/zips/train2017.zip") == 1


def test_an_archive_that_is_gone_is_told_by_the_check_and_rejects_its_records(
    catalog: Catalog, hub: FakeHub, web: Server, tmp_path: Path
):
    packed = web.files.pop("zips/val2017.zip")
    [document] = check_rows(catalog, [catalog.source("lvis-instruct4v")])
    assert is_wrong(document) and document["state"] == "unreachable" and "zips/val2017.zip" in str(document)
    store = Store.open(str(tmp_path / "root"))
    torn = ingest(catalog, "lvis-instruct4v", store)
    assert torn.manifest["counts"]["rejected"] == {"archive_damaged": 1}
    [reject] = rows(torn, "rejected").to_dicts()
    assert "val2017.zip" in reject["detail"] and "404" in reject["detail"]
    web.files["zips/val2017.zip"] = packed
    assert ingest(catalog, "lvis-instruct4v", store).manifest["counts"]["samples"] == 2
    assert [request.path for request in web.requests].count("/zips/train2017.zip") == 2, "once by the check, once to fetch it"
