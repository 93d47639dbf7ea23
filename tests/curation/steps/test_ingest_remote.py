"""Sources that lie elsewhere: fetched, then read like any other."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from curation.errors import FetchError, RejectReason
from curation.storage.store import Store
from curation.upstream.inputs import forget_fetched
from tests.curation.fetch.test_hub import repository
from tests.support.fake_hub import COMMIT, fake_hub
from tests.support.http_server import Server, serving
from tests.support.release_world import RECORDS, local_release, release_catalog, release_files, release_records
from tests.support.s3 import SECRET, Faults, s3_server
from tests.support.upstream import content, ingest, picture, rows, write_catalog, write_files

ROW = {
    "category": "ocr",
    "layout": "qa",
    "fields": {"question": "q", "answer": "a"},
    "images": {"path": "image", "folder": "pics"},
}
FILES = {
    "a.jsonl": "".join(json.dumps({"q": f"What is {n}?", "a": str(n), "image": f"{n}.png"}) + "\n" for n in range(5)).encode(),
    **{f"pics/{n}.png": picture(n) for n in range(5)},
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    with s3_server(monkeypatch) as faults:
        yield faults


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "1")
    monkeypatch.setattr("curation.fetch.client.Client.wait", lambda self, seconds: None)
    with serving() as server:
        yield server


def put(url: str, files: dict[str, bytes]) -> None:
    store, root = fsspec.core.url_to_fs(url)
    store.pipe({f"{root}/{name}": data for name, data in files.items()})


def local(folder: Path, location: dict[str, Any], row: dict[str, Any] = ROW) -> Any:
    return ingest(write_catalog(folder, {"data": row | {"location": location}}), "data", Store.open(str(folder / "root")))


def samples(artefact: Any) -> list[tuple[str, str, str]]:
    found = rows(artefact, "samples").sort("origin_position")
    return [(row["sample_id"], row["origin_file"], row["images"][0]["sha256"]) for row in found.to_dicts()]


def test_files_of_a_bucket_are_samples_like_those_of_a_folder(tmp_path: Path, s3: Faults):
    write_files(tmp_path / "here" / "data", FILES)
    expected = samples(local(tmp_path / "here", {"root": "data", "files": "*.jsonl"}))
    put("s3://lake/team/data", {**FILES, "unrelated/large.bin": b"x"})
    s3.plan = lambda number, method, path: "503" if number % 7 == 0 and method == "GET" else None
    location = {"root": "s3://lake/team/data", "files": "*.jsonl"}
    artefact = local(tmp_path / "there", location)
    assert samples(artefact) == expected
    assert not list((tmp_path / "there").rglob("large.bin"))
    s3.plan = lambda number, method, path: None
    before = s3.num_requests
    assert local(tmp_path / "there", location).folder == artefact.folder and s3.num_requests == before
    written = "".join(path.read_text() for path in (tmp_path / "there").rglob("*.json"))
    assert SECRET not in written and "somebody" not in written


def test_a_bucket_that_cannot_be_read_is_explained_without_secrets(tmp_path: Path, s3: Faults, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FetchError, match=r"no file matches '\*\.jsonl' below s3://lake/none") as caught:
        local(tmp_path, {"root": "s3://lake/none", "files": "*.jsonl"})
    assert SECRET not in str(caught.value)
    with pytest.raises(FetchError) as caught:
        local(tmp_path, {"root": "s3://no-such-bucket/x", "files": "*.jsonl"})
    assert SECRET not in str(caught.value)


def test_a_file_that_grew_while_it_was_copied_is_refused(tmp_path: Path):
    from curation.fetch import files
    from curation.runtime.progress import LineReporter

    put("memory://growing", {"a.bin": b"x" * 100})
    [listed] = files.list_files("memory://growing", ["*"])
    store, root = files._store("memory://growing")
    put("memory://growing", {"a.bin": b"x" * 150})
    with pytest.raises(FetchError, match="more than the 100 bytes"), LineReporter(None).track("x", 1) as track:
        files._copy(store, root, listed, tmp_path, track)
    assert not (tmp_path / "a.bin").exists()


def test_a_half_copied_file_is_continued_when_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from curation.fetch import files
    from curation.runtime.progress import LineReporter

    data = bytes(range(256)) * 40
    put("memory://half", {"a.bin": data})
    monkeypatch.setattr(files, "_BLOCK_BYTES", 1_000)
    read: list[int] = []
    original = files._append

    def breaking(store: Any, path: str, part: Path, file: Any, track: Any) -> None:
        read.append(part.stat().st_size if part.exists() else 0)
        if len(read) == 1:
            part.write_bytes(data[:3_000])
            raise OSError("the connection broke")
        original(store, path, part, file, track)

    monkeypatch.setattr(files, "_append", breaking)
    assert files.fetch_files("memory://half", ["*"], [], tmp_path, LineReporter(None)) == {}
    assert read == [0, 3_000] and (tmp_path / "a.bin").read_bytes() == data


def test_files_of_the_web_are_fetched_and_read(tmp_path: Path, web: Server):
    pictures = FILES | {}
    archive = _packed({name.removeprefix("pics/"): data for name, data in pictures.items() if name.startswith("pics/")})
    web.files = {"x/a.jsonl": FILES["a.jsonl"], "pics.tar.gz": archive}
    web.plan.status = [(503, {})]
    location = {
        "http": [
            {"url": f"{web.url}/x/a.jsonl", "sha256": hashlib.sha256(FILES["a.jsonl"]).hexdigest()},
            {"url": f"{web.url}/pics.tar.gz", "size": len(archive)},
        ]
    }
    row = ROW | {"images": {"path": "image", "tar": "pics.tar.gz"}}
    artefact = local(tmp_path, location, row)
    assert [origin for _, origin, _ in samples(artefact)] == ["a.jsonl"] * 5
    web.requests.clear()
    assert local(tmp_path, location, row).folder == artefact.folder and not web.requests


def test_a_file_of_the_web_with_another_hash_stops_the_source(tmp_path: Path, web: Server):
    web.files = {"a.jsonl": FILES["a.jsonl"]}
    with pytest.raises(FetchError, match=r"source 'data'.*its sha256 is .*run again to go on"):
        local(tmp_path, {"http": [{"url": f"{web.url}/a.jsonl", "sha256": "0" * 64}]}, ROW | {"images": None})


def test_a_split_of_the_hub_is_read_as_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    row = {
        "category": "science",
        "layout": "qa",
        "fields": {"question": {"text": "What is it?"}, "answer": "id", "id": "id"},
        "images": {"bytes": "image"},
    }
    with fake_hub(monkeypatch, {"owner/name": repository()}) as hub:
        location = {"hub": "owner/name", "config": "ai2d", "split": "train", "revision": "main"}
        artefact = local(tmp_path, location, row)
        assert artefact.manifest["counts"]["samples"] == 60
        assert samples(artefact)[3][2] == hashlib.sha256(picture(3)).hexdigest()
        assert hub.server is not None
        hub.server.requests.clear()
        assert local(tmp_path, location, row).folder == artefact.folder and not hub.server.requests


def test_a_release_on_the_hub_with_one_part_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store):
    monkeypatch.setattr("curation.fetch.client.Client.wait", lambda self, seconds: None)
    mirror = local_release(tmp_path / "mirror")
    expected = ingest(mirror, "allava", Store.open(str(tmp_path / "other")))
    with fake_hub(monkeypatch, {"owner/release": release_files()}) as hub:
        catalog = release_catalog(tmp_path / "hub", {"hub": "owner/release"})
        bad = "allava.tar.gz_part7"
        hub.broken[bad] = b"!" * len(release_files()[bad])
        # Small files of a repository come without a hash; sizes tell nothing here, so the archive itself must.
        first = ingest(catalog, "allava", store)
        assert set(first.manifest["counts"]["rejected"]) == {"archive_damaged"}
        del hub.datasets["owner/release"][bad]
        assert ingest(catalog, "dvqa", store).manifest["counts"]["samples"] == 12
        hub.datasets["owner/release"] = release_files()
        hub.broken.clear()
        [spoilt] = (store.root / "upstream" / "hub" / "owner--release" / COMMIT / "files").glob(bad)
        spoilt.unlink()
        second = ingest(catalog, "allava", store)
        assert apart_from_places(second) == apart_from_places(expected)
        assert hub.server is not None and all(
            COMMIT in request.path for request in hub.server.requests if RECORDS in request.path
        )


def apart_from_places(artefact: Any) -> Any:
    found = content(artefact.folder)
    found["manifest.json"]["inputs"].pop("places")
    return found


def test_a_part_that_the_server_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store):
    with fake_hub(monkeypatch, {"owner/release": release_files()}) as hub:
        catalog = release_catalog(tmp_path / "hub", {"hub": "owner/release"})
        ingest(catalog, "dvqa", store)  # the listing is known now
        gone = hub.datasets["owner/release"].pop("allava.tar.gz_part2")
        artefact = ingest(catalog, "allava", store)
        detail = rows(artefact, "rejected")["detail"][0]
        assert (
            "archive allava.tar.gz is damaged" in detail and "'allava.tar.gz_part2' is not here" in detail and "404" in detail
        )
        hub.datasets["owner/release"]["allava.tar.gz_part2"] = gone
        assert ingest(catalog, "allava", store).manifest["counts"]["samples"] == 12


def test_a_release_in_a_bucket(tmp_path: Path, s3: Faults, store: Store):
    put("s3://lake/mirror", release_files())
    catalog = release_catalog(tmp_path / "up", {"root": "s3://lake/mirror"})
    for name in ("allava", "coco", "orca"):
        assert ingest(catalog, name, store).manifest["counts"]["samples"] == 12


def test_files_of_a_repository_come_at_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {f"deep/{name}": data for name, data in FILES.items()} | {"other.bin": b"x" * 99}
    with fake_hub(monkeypatch, {"owner/name": files}) as hub:
        location = {"root": "hf://datasets/owner/name/deep", "files": "*.jsonl"}
        artefact = local(tmp_path, location)
        assert len(samples(artefact)) == 5
        assert artefact.manifest["inputs"]["places"] == [{"hub": "owner/name", "commit": COMMIT}]
        assert hub.server is not None and not any("other.bin" in request.path for request in hub.server.requests)


def test_a_branch_is_asked_again_only_when_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store):
    with fake_hub(monkeypatch, {"owner/release": release_files()}) as hub:
        catalog = release_catalog(tmp_path / "hub", {"hub": "owner/release"})
        first = ingest(catalog, "orca", store)
        assert first.manifest["inputs"]["places"][0]["commit"] == COMMIT
        fewer = [line for line in release_records() if isinstance(line, dict) and line["id"] != "text-3"]
        hub.commits["main"] = "d" * 40
        hub.datasets["owner/release"] = release_files(fewer)
        assert ingest(catalog, "orca", store).folder == first.folder
        forget_fetched(catalog, catalog.source("orca"), store)
        second = ingest(catalog, "orca", store)
        assert second.manifest["inputs"]["places"][0]["commit"] == "d" * 40
        assert second.manifest["counts"]["samples"] == 11


def test_what_changed_in_a_bucket_is_seen_when_asked_for(tmp_path: Path, store: Store):
    put("memory://changing", FILES)
    catalog = write_catalog(tmp_path, {"data": ROW | {"location": {"root": "memory://changing", "files": "*.jsonl"}}})
    assert ingest(catalog, "data", store).manifest["counts"]["samples"] == 5
    put("memory://changing", {"a.jsonl": FILES["a.jsonl"].split(b"\n")[0]})
    assert ingest(catalog, "data", store).manifest["counts"]["samples"] == 5
    forget_fetched(catalog, catalog.source("data"), store)
    assert ingest(catalog, "data", store).manifest["counts"]["samples"] == 1


def test_a_snapshot_of_the_hub_cache_is_a_root(tmp_path: Path):
    repository_folder = tmp_path / "datasets--owner--name"
    snapshot = repository_folder / "snapshots" / COMMIT
    for number, (name, data) in enumerate(FILES.items()):
        write_files(repository_folder / "blobs", {str(number): data})
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(repository_folder / "blobs" / str(number))
    assert len(samples(local(tmp_path, {"root": str(snapshot), "files": "*.jsonl"}))) == 5


def test_a_damaged_file_says_what_kind_of_damage_it_is(tmp_path: Path):
    write_files(tmp_path / "data", {"a.parquet": b"PAR1 and no more", "a.tar": b"no tar at all" * 99, "b.jsonl": b"{"})
    for file, reader, reason in (
        ("a.parquet", {"format": "parquet"}, RejectReason.UNREADABLE_FILE),
        ("a.tar", {"format": "webdataset"}, RejectReason.ARCHIVE_DAMAGED),
        ("b.jsonl", {"format": "json"}, RejectReason.BAD_JSON),
    ):
        artefact = local(tmp_path, {"root": "data", "files": file}, ROW | {"images": None, "reader": reader})
        assert artefact.manifest["counts"]["rejected"] == {reason.value: 1}


def _packed(files: dict[str, bytes]) -> bytes:
    from tests.curation.fetch.test_archives import tar_of

    return gzip.compress(tar_of(files), mtime=0)
