"""Trying what lies in buckets and on the web: from the beginnings of files, with pictures, and never more than a bound."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.spec import Catalog
from curation.fetch import far_file
from curation.inspection import trial_pictures
from curation.inspection.trial import Trial, try_row
from curation.storage.store import Store
from curation.upstream import far_head
from curation.upstream import head as release_head
from tests.curation.inspection.test_trial import tar_of
from tests.support.archives import zip_of
from tests.support.fake_hub import fake_hub
from tests.support.http_server import Server, serving
from tests.support.release_world import packed_tar, release_catalog, release_files, split_parts
from tests.support.upstream import content, ingest, picture, rows, write_catalog, write_files

ROW: dict[str, Any] = {
    "category": "ocr",
    "layout": "qa",
    "fields": {"question": "q", "answer": "a"},
    "images": {"path": "image", "folder": "pics"},
}
RECORDS = [{"q": f"What is {n}?", "a": str(n), "image": f"{n}.png"} for n in range(12)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
PICTURES = {f"{n}.png": picture(n, size=(40, 30)) for n in range(12)}
LOOSE = {"a.jsonl": LINES, **{f"pics/{name}": data for name, data in PICTURES.items()}}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "1")
    with serving() as server:
        yield server


def put(url: str, files: dict[str, bytes]) -> None:
    store, root = fsspec.core.url_to_fs(url)
    store.pipe({f"{root}/{name}": data for name, data in files.items()})


def catalog_of(folder: Path, location: dict[str, Any], **row: Any) -> Catalog:
    return write_catalog(folder, {"data": {**ROW, "location": location, **row}})


def tried(catalog: Catalog, head: int = 5) -> Trial:
    return try_row(catalog, catalog.source("data"), head)


def sizes(trial: Trial) -> list[tuple[int | None, int | None, int | None]]:
    return [(image.width, image.height, image.num_bytes) for sample in trial.samples for image in sample.images]


EXPECTED = [(40, 30, len(PICTURES[f"{n}.png"])) for n in range(5)]


def test_the_beginning_of_a_bucket_is_tried_with_its_pictures(tmp_path: Path):
    put("memory://try-loose", LOOSE)
    catalog = catalog_of(tmp_path, {"root": "memory://try-loose", "files": "*.jsonl"})
    trial = tried(catalog)
    assert [sample.position for sample in trial.samples] == list(range(5))
    assert sizes(trial) == EXPECTED
    assert not trial.parts[0].is_all and tried(catalog, 50).parts[0].is_all
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.yaml"], "nothing is kept"


def test_a_trial_of_all_of_a_bucket_is_what_ingestion_makes(tmp_path: Path):
    dirty = [*RECORDS, {"q": "", "a": "x", "image": "1.png"}, {"q": "?", "a": "x", "image": "gone.png"}]
    put("memory://try-dirty", LOOSE | {"a.jsonl": "".join(json.dumps(record) + "\n" for record in dirty).encode()})
    catalog = catalog_of(tmp_path, {"root": "memory://try-dirty", "files": "*.jsonl"})
    trial = tried(catalog, 100)
    artefact = ingest(catalog, "data", Store.open(str(tmp_path / "root")))
    assert {sample.position for sample in trial.samples} == set(rows(artefact, "samples")["origin_position"])
    assert trial.reasons == artefact.manifest["counts"]["rejected"]


@pytest.mark.parametrize("packed", ["zip", "tar", "tar.gz", "parts"])
def test_pictures_in_an_archive_on_the_web_are_met_by_ranges(tmp_path: Path, web: Server, packed: str):
    files = {
        "zip": {"p.zip": zip_of(PICTURES)},
        "tar": {"p.tar": tar_of(PICTURES)},
        "tar.gz": {"p.tar.gz": packed_tar(PICTURES)},
        "parts": split_parts(packed_tar(PICTURES), "p.tar.gz", 3),
    }[packed]
    web.files = {"a.jsonl": LINES, **files}
    images = {
        "path": "image",
        "zip" if packed == "zip" else "tar": "p.tar.gz_part*" if packed == "parts" else next(iter(files)),
    }
    location = {"http": [{"url": f"{web.url}/{name}"} for name in web.files]}
    trial = tried(catalog_of(tmp_path, location, images=images))
    assert sizes(trial) == EXPECTED and not trial.rejects
    [gone] = tried(catalog_of(tmp_path, location, images=images | {"path": "x{image}"}), 1).rejects
    assert gone.reason == "missing_image" and "x0.png" in gone.detail


def test_no_more_of_an_archive_is_read_than_the_bound(tmp_path: Path, web: Server, monkeypatch: pytest.MonkeyPatch):
    large = {name: data + random.Random(name).randbytes(1_500) for name, data in PICTURES.items()}
    web.files = {"a.jsonl": LINES, "p.tar.gz": packed_tar(large) + bytes(5_000_000)}
    monkeypatch.setattr(far_file, "RANGE_BYTES", 1_000)
    monkeypatch.setattr(trial_pictures, "ARCHIVE_BYTES", 4_000)
    location = {"http": [{"url": f"{web.url}/{name}"} for name in web.files]}
    trial = tried(catalog_of(tmp_path, location, images={"path": "image", "tar": "p.tar.gz"}), 12)
    notes = [image.note for sample in trial.samples for image in sample.images]
    assert len(notes) == 12 and notes[0] is None, "what is not judged is no reject"
    assert "not within the first" in str(notes[-1]) and "p.tar.gz" in str(notes[-1])
    asked = [request for request in web.requests if "p.tar.gz" in request.path]
    assert max(int(request.start or 0) for request in asked) < 5_000


@pytest.mark.parametrize("style", ["lines", "array"])
def test_a_cut_record_file_ends_before_its_last_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str):
    monkeypatch.setattr(release_head, "HEAD_BYTES", 400)
    put(f"memory://try-cut-{style}", LOOSE | {"a.jsonl": LINES if style == "lines" else json.dumps(RECORDS).encode()})
    trial = tried(catalog_of(tmp_path, {"root": f"memory://try-cut-{style}", "files": "*.jsonl"}), 12)
    assert 2 <= len(trial.samples) < 9 and not trial.rejects
    assert [sample.position for sample in trial.samples] == list(range(len(trial.samples)))
    assert not trial.parts[0].is_all


def test_the_first_rows_of_a_far_parquet_file_are_read_by_ranges(tmp_path: Path, web: Server):
    table = pa.table({"q": ["?"] * 300, "a": ["!"] * 300, "image": [picture(n, size=(60, 60)) for n in range(300)]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=100)
    web.files = {"a.parquet": buffer.getvalue()}
    location = {"http": [{"url": f"{web.url}/a.parquet"}]}
    trial = tried(catalog_of(tmp_path, location, reader={"format": "parquet"}, images={"bytes": "image"}), 3)
    assert [image.width for sample in trial.samples for image in sample.images] == [60] * 3
    assert not trial.parts[0].is_all


def test_a_parquet_file_that_needs_too_much_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from curation.errors import FetchError

    monkeypatch.setattr(far_head, "PARQUET_BYTES", 10)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"q": ["?"], "a": ["!"]}), buffer)
    put("memory://try-parquet", {"a.parquet": buffer.getvalue()})
    catalog = catalog_of(
        tmp_path, {"root": "memory://try-parquet", "files": "*.parquet"}, reader={"format": "parquet"}, images=None
    )
    with pytest.raises(FetchError, match=r"the first rows of 'a\.parquet' cannot be read"):
        tried(catalog)


def test_files_that_belong_to_records_are_brought_too(tmp_path: Path):
    files = {"r/one.json": b'{"q": "?"}', "box/one.txt": b"the answer"}
    put("memory://try-joined", files)
    catalog = catalog_of(
        tmp_path,
        {"root": "memory://try-joined", "files": "r/*.json"},
        images=None,
        reader={"records": "one"},
        join={"box": {"file": "box/{_stem}.txt", "format": "text"}},
        fields={"question": "q", "answer": "box"},
    )
    assert [sample.turns[1][1] for sample in tried(catalog).samples] == ["the answer"]


def test_a_server_without_ranges_gives_the_beginning(tmp_path: Path, web: Server):
    web.plan.knows_ranges = False
    web.files = {"a.jsonl": LINES, "p.tar.gz": packed_tar(PICTURES)}
    location = {"http": [{"url": f"{web.url}/{name}"} for name in web.files]}
    assert sizes(tried(catalog_of(tmp_path, location, images={"path": "image", "tar": "p.tar.gz"}))) == EXPECTED


def test_a_picture_that_the_server_refuses_is_not_taken_for_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {"a.jsonl": LINES, "pics/0.png": PICTURES["0.png"], "pics/2.png": PICTURES["2.png"]}
    with fake_hub(monkeypatch, {"owner/name": files}) as hub:
        assert hub.server is not None
        answer = hub.answer
        hub.server.answer = lambda request: (403, {}, b"") if "pics/2" in request.path else answer(request)
        trial = tried(catalog_of(tmp_path, {"root": "hf://datasets/owner/name", "files": "*.jsonl"}), 3)
    assert [image.note is None for sample in trial.samples for image in sample.images] == [True, False]
    assert "403" in str(trial.samples[1].images[0].note)
    assert [(reject.position, reject.reason) for reject in trial.rejects] == [(1, "missing_image")]
    assert "has no file 'pics/1.png'" in trial.rejects[0].detail


def test_archives_of_a_release_in_parts_are_looked_through(tmp_path: Path):
    put("memory://try-release", release_files())
    catalog = release_catalog(tmp_path, {"root": "memory://try-release"})
    trial = try_row(catalog, catalog.source("allava"), 3)
    assert [(image.name, image.width) for sample in trial.samples for image in sample.images] == [
        (f"allava/{n}.png", 40) for n in range(3)
    ]


@pytest.mark.parametrize("length", [100, 200, 400])
def test_a_damaged_archive_of_a_release_is_told(tmp_path: Path, length: int):
    files = release_files()
    files["dvqa.tar.gz"] = files["dvqa.tar.gz"][:length]
    write_files(tmp_path / "mirror", files)
    catalog = release_catalog(tmp_path, {"root": "mirror"})
    before = content(tmp_path)
    trial = try_row(catalog, catalog.source("dvqa"), 12)
    assert set(trial.reasons) == {"archive_damaged"}
    assert content(tmp_path) == before
