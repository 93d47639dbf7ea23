import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.spec import Catalog
from curation.errors import CatalogError, FetchError
from curation.inspection.trial import TriedReject, TriedSample, try_row
from curation.storage.store import Store
from curation.upstream import head as release_head
from tests.support.fake_hub import fake_hub
from tests.support.release_world import RECORDS, local_release, release_catalog, release_files
from tests.support.upstream import SOURCES, content, ingest, picture, rows, write_catalog, write_files, write_world

QA = {"category": "ocr", "layout": "qa", "fields": {"question": "q", "answer": "a"}}


def catalog_of(folder: Path, files: dict[str, Any], **row: Any) -> Catalog:
    write_files(folder / "data", files)
    return write_catalog(folder, {"data": {**QA, "location": {"root": "data", "files": "*"}, **row}})


def lines(*records: Any) -> str:
    return "\n".join(map(json.dumps, records))


@pytest.mark.parametrize("name", SOURCES)
def test_a_trial_of_everything_is_what_ingestion_makes(tmp_path: Path, store: Store, name: str):
    """Law: the same samples and rejects, record for record, in whatever way they are read."""
    world = write_world(tmp_path / "upstream")
    trial = try_row(world, world.source(name), 10_000)
    artefact = ingest(world, name, store)
    samples = {
        (row["origin_file"], row["origin_position"]): (
            [(turn["from"], turn["value"]) for turn in row["conversations"]],
            [(image["width"], image["height"], image["num_bytes"], image["extension"]) for image in row["images"]],
            row["origin_id"],
        )
        for row in rows(artefact, "samples").to_dicts()
    }
    tried = {
        (each.file, each.position): (
            list(each.turns),
            [(image.width, image.height, image.num_bytes, image.extension) for image in each.images],
            each.id,
        )
        for each in trial.samples
    }
    assert tried == samples
    rejected = rows(artefact, "rejected").to_dicts() if artefact.files("rejected") else []
    expected = {(row["origin_file"], row["origin_position"], row["reason"], row["detail"]) for row in rejected}
    assert {(each.file, each.position, each.reason, each.detail) for each in trial.rejects} == expected
    assert trial.reasons == artefact.manifest["counts"]["rejected"]
    assert all(part.is_all for part in trial.parts)


def test_the_first_records_come_in_order_with_their_rejects(tmp_path: Path):
    world = write_world(tmp_path)
    [part] = try_row(world, world.source("shapes"), 9).parts
    assert [record.position for record in part.records] == list(range(9))
    assert [record.position for record in part.records if isinstance(record, TriedReject)] == [7]
    assert not part.is_all


def test_nothing_is_written_beside_the_files(tmp_path: Path):
    world = write_world(tmp_path)
    before = content(tmp_path)
    try_row(world, world.source("shapes"), 100)
    assert content(tmp_path) == before


def test_pictures_are_shown_as_they_are(tmp_path: Path):
    files = {"a.jsonl": lines({"q": "?", "a": "!", "image": "lying.png"}), "pics/lying.png": picture(1, "JPEG", (30, 20))}
    catalog = catalog_of(
        tmp_path, files, location={"root": "data", "files": "*.jsonl"}, images={"path": "image", "folder": "pics"}
    )
    [sample] = try_row(catalog, catalog.source("data")).samples
    [image] = sample.images
    assert (image.name, image.extension, image.width, image.height) == ("pics/lying.png", "jpg", 30, 20)
    assert image.num_bytes == len(files["pics/lying.png"])
    assert image.is_misnamed


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_tar_of_pictures_is_read_no_further_than_needed(tmp_path: Path):
    members = {f"{number}.png": picture(number) for number in range(8)}
    damaged = tar_of(members)[:-4_000]  # a scan of all of it would find the damage
    records = [{"q": "?", "a": "!", "image": f"{number}.png"} for number in (0, 1, 99)]
    files = {"a.jsonl": lines(*records), "b.tar": damaged}
    catalog = catalog_of(
        tmp_path, files, location={"root": "data", "files": "*.jsonl"}, images={"path": "image", "tar": "b.tar"}
    )
    trial = try_row(catalog, catalog.source("data"))
    assert [sample.images[0].num_bytes for sample in trial.samples] == [len(members["0.png"]), len(members["1.png"])]
    assert [(reject.position, reject.reason) for reject in trial.rejects] == [(2, "missing_image")]


def test_pictures_in_a_zip_are_found(tmp_path: Path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("p/1.png", picture(1))
    files = {"a.jsonl": lines({"q": "?", "a": "!", "n": 1}), "b.zip": buffer.getvalue()}
    images = {"path": "p/{n}.png", "zip": "b.zip"}
    catalog = catalog_of(tmp_path, files, location={"root": "data", "files": "*.jsonl"}, images=images)
    assert len(try_row(catalog, catalog.source("data")).samples) == 1


def test_of_a_large_row_group_only_the_first_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.inspection.trial._LARGE_GROUP_BYTES", 1)
    table = pa.table({"q": ["?"] * 50, "a": ["!"] * 50, "image": [picture(number) for number in range(50)]})
    write_files(tmp_path / "data", {"x": b""})
    (tmp_path / "data" / "x").unlink()
    pq.write_table(table, tmp_path / "data" / "a.parquet")
    catalog = catalog_of(tmp_path, {}, reader={"format": "parquet"}, images={"bytes": "image"})
    read_rows: list[int] = []
    monkeypatch.setattr("curation.inspection.trial.map_batch", _noting(read_rows))
    trial = try_row(catalog, catalog.source("data"), 3)
    assert [sample.position for sample in trial.samples] == [0, 1, 2]
    assert trial.samples[2].images[0].num_bytes == len(picture(2))
    assert sum(read_rows) == 4  # one more, to know that there are more
    assert not trial.parts[0].is_all


def _noting(sizes: list[int]) -> Any:
    from curation.sources.mapping import map_batch

    def noting(batch: Any, *rest: Any) -> None:
        sizes.append(len(batch.records))
        map_batch(batch, *rest)

    return noting


def test_of_a_large_quoted_table_only_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.inspection.trial._QUOTED_HEAD_BYTES", 40)
    text = "q,a\n" + "".join(f'"é{number}, ""really""?",{number}\n' for number in range(100))
    reader = {"format": "delimited", "separator": ",", "header": True, "quoting": True}
    catalog = catalog_of(tmp_path, {"a.csv": text}, reader=reader)
    trial = try_row(catalog, catalog.source("data"), 50)
    assert trial.samples[0].turns == (("human", 'é0, "really"?'), ("gpt", "0"))
    assert 1 <= len(trial.samples) < 5
    assert trial.rejects == []


def test_each_part_is_tried(tmp_path: Path):
    files = {"a.jsonl": lines({"q": "?", "a": 1}), "b.jsonl": lines({"q": "?", "b": 2})}
    parts = [{"location": {"root": "data", "files": "a.jsonl"}}, {"location": {"root": "data", "files": "b.jsonl"}}]
    catalog = catalog_of(tmp_path, files, parts=parts)
    trial = try_row(catalog, catalog.source("data"))
    assert [[type(record) for record in part.records] for part in trial.parts] == [[TriedSample], [TriedReject]]


def test_what_is_elsewhere_or_missing_is_told(tmp_path: Path):
    catalog = catalog_of(tmp_path, {"a": ""}, location={"root": "memory://nothing/there", "files": "*"})
    with pytest.raises(FetchError, match=r"no file matches '\*' below memory://nothing/there"):
        try_row(catalog, catalog.source("data"))
    catalog = catalog_of(tmp_path, {"a": ""}, location={"root": "data", "files": "*.nothing"})
    with pytest.raises(CatalogError, match="no file matches"):
        try_row(catalog, catalog.source("data"))


def test_the_records_of_a_release_that_a_row_claims_are_tried(tmp_path: Path):
    catalog = local_release(tmp_path / "up")
    trial = try_row(catalog, catalog.source("allava"), 5)
    assert [(sample.file, sample.position) for sample in trial.samples] == [(RECORDS, 1 + 4 * n) for n in range(5)]
    assert [sample.id for sample in trial.samples] == [f"allava-{number}" for number in range(5)]
    assert [(image.width, image.height) for sample in trial.samples for image in sample.images] == [(40, 30)] * 5
    assert not trial.rejects


@pytest.mark.parametrize("text_only", [True, False])
def test_of_a_release_on_the_hub_only_the_beginning_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_only: bool
):
    monkeypatch.setattr(release_head, "HEAD_BYTES", 3_000)
    name = "orca" if text_only else "dvqa"
    with fake_hub(monkeypatch, {"owner/release": release_files()}) as remote:
        catalog = release_catalog(tmp_path, {"hub": "owner/release"})
        trial = try_row(catalog, catalog.source(name), 3)
        assert remote.server is not None
        asked = [request.path for request in remote.server.requests]
    assert [sample.turns[1][1] for sample in trial.samples] == [
        f"It is {'text' if text_only else 'dvqa'}-{number}." for number in range(3)
    ]
    archives = {path.rsplit("/", 1)[-1] for path in asked if ".tar.gz" in path}
    assert archives == (set() if text_only else {"dvqa.tar.gz"})
    assert [image.width for sample in trial.samples for image in sample.images] == ([] if text_only else [40] * 3)
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.yaml"], "nothing is kept"
