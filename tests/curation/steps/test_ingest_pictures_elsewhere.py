"""Sources whose pictures do not lie with their records: at URLs that records hold, or in archives elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.errors import FetchError
from curation.inspection.trial import TriedReject, TriedSample, try_row
from curation.storage.store import Store
from curation.upstream.inputs import forget_fetched
from tests.curation.fetch.test_archives import tar_of
from tests.support.http_server import Server, serving
from tests.support.upstream import Killed, StoppingPool, content, ingest, picture, rows, write_catalog, write_files

ROW: dict[str, Any] = {
    "category": "general",
    "layout": "caption",
    "location": {"root": "data", "files": "a.jsonl"},
    "fields": {"caption": "caption"},
    "images": {"url": "link"},
}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "all")
    monkeypatch.setattr("curation.fetch.client.Client.wait", lambda self, seconds: None)
    with serving({f"{n}.png": picture(n) for n in range(30)}) as server:
        yield server


def write(folder: Path, records: list[dict[str, Any]]) -> None:
    write_files(folder / "data", {"a.jsonl": "".join(json.dumps(record) + "\n" for record in records)})


def linked(server: Server, number: int = 30) -> list[dict[str, Any]]:
    return [{"caption": f"It is number {n}.", "link": f"{server.url}/{n}.png"} for n in range(number)]


def test_each_record_is_a_sample_or_has_its_reason(web: Server, tmp_path: Path):
    dirt = [
        {"caption": "Gone.", "link": f"{web.url}/gone.png"},
        {"caption": "No picture.", "link": f"{web.url}/words.png"},
        {"caption": "Names none.", "link": None},
        {"caption": "A file.", "link": "../secret.png"},
        {"caption": "The same again.", "link": f"{web.url}/1.png"},
    ]
    web.files["words.png"] = b"this is no picture"
    write(tmp_path, [*linked(web), *dirt])
    artefact = ingest(write_catalog(tmp_path, {"s": ROW}), "s", Store.open(str(tmp_path / "root")))
    counts = artefact.manifest["counts"]
    assert (counts["records"], counts["samples"]) == (35, 31)
    assert counts["rejected"] == {"missing_image": 3, "unreadable_image": 1}
    details = {row["origin_position"]: row["detail"] for row in rows(artefact, "rejected").to_dicts()}
    assert details[30] == f"{web.url}/gone.png: the server answers 404; it is not there"
    assert "no address of a picture" in details[33]
    assert artefact.manifest["inputs"]["num_files"] == 32, "the records, and each picture once"


def test_the_same_bytes_after_a_kill_and_nothing_is_asked_for_twice(web: Server, tmp_path: Path):
    write(tmp_path, linked(web))
    catalog = write_catalog(tmp_path, {"s": ROW})
    whole = content(ingest(catalog, "s", Store.open(str(tmp_path / "whole"))).folder)
    web.requests.clear()
    store = Store.open(str(tmp_path / "root"))
    for allowed in range(6):
        try:
            artefact = ingest(catalog, "s", store, StoppingPool(allowed))
            break
        except Killed:
            continue
    else:
        artefact = ingest(catalog, "s", store)
    assert content(artefact.folder) == whole
    assert sorted(request.path for request in web.requests) == sorted(f"/{n}.png" for n in range(30))


def test_refresh_asks_again_for_what_was_gone(web: Server, tmp_path: Path):
    late = web.files.pop("7.png")
    write(tmp_path, linked(web))
    catalog, store = write_catalog(tmp_path, {"s": ROW}), Store.open(str(tmp_path / "root"))
    first = ingest(catalog, "s", store)
    assert first.manifest["counts"]["rejected"] == {"missing_image": 1}
    web.files["7.png"] = late
    assert ingest(catalog, "s", store).folder == first.folder
    forget_fetched(catalog, catalog.source("s"), store)
    web.requests.clear()
    second = ingest(catalog, "s", store)
    assert second.folder != first.folder and second.manifest["counts"]["samples"] == 30
    assert [request.path for request in web.requests] == ["/7.png"]


def test_a_network_that_is_down_is_no_reason_to_reject(web: Server, tmp_path: Path):
    write(tmp_path, linked(web))
    catalog, store = write_catalog(tmp_path, {"s": ROW}), Store.open(str(tmp_path / "root"))
    web.answer = lambda request: (503, {}, b"")
    with pytest.raises(FetchError, match="30 of 30 pictures did not come"):
        ingest(catalog, "s", store)
    web.answer = None
    assert ingest(catalog, "s", store).manifest["counts"]["samples"] == 30


def test_a_trial_shows_pictures_and_what_is_wrong_with_them(web: Server, tmp_path: Path):
    dirt = [{"caption": "Gone.", "link": f"{web.url}/gone.png"}, {"caption": "Busy.", "link": f"{web.url}/busy.png"}]
    web.answer = lambda request: (503, {}, b"") if "busy" in request.path else None
    write(tmp_path, [*linked(web, 3), *dirt])
    catalog = write_catalog(tmp_path, {"s": ROW})
    first, _, _, gone, busy = try_row(catalog, catalog.source("s")).parts[0].records
    assert isinstance(first, TriedSample) and (first.images[0].width, first.images[0].height) == (5, 4)
    assert isinstance(gone, TriedReject) and gone.reason == "missing_image" and "answers 404" in gone.detail
    assert isinstance(busy, TriedSample) and "the server answers 503" in str(busy.images[0].note)


def test_pictures_in_archives_at_several_places(web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "1")
    web.files["far/one.tar.gz"] = tar_of({"a/1.png": picture(1)}, packed=True)
    images = {"path": "link", "tar": ["near.tar", f"{web.url}/far/one.tar.gz"], "strip": "all/of/it"}
    names = ["all/of/it/a/1.png", "all/of/it/b/2.png", "all/of/it/c/3.png"]
    write(tmp_path, [{"caption": f"It is {name}.", "link": name} for name in names])
    write_files(tmp_path / "data", {"near.tar": tar_of({"b/2.png": picture(2)})})
    catalog, store = write_catalog(tmp_path, {"s": ROW | {"images": images}}), Store.open(str(tmp_path / "root"))
    trial = try_row(catalog, catalog.source("s"))
    assert [len(trial.samples), trial.reasons] == [2, {"missing_image": 1}]
    artefact = ingest(catalog, "s", store)
    assert artefact.manifest["counts"]["samples"] == 2
    [reject] = rows(artefact, "rejected").to_dicts()
    assert reject["reason"] == "missing_image" and "no such picture in" in reject["detail"] and "one.tar.gz" in reject["detail"]
    assert artefact.manifest["inputs"]["places"] == [{"archives": f"{web.url}/far/one.tar.gz"}]
    asked = len(web.requests)
    assert ingest(catalog, "s", store).folder == artefact.folder and len(web.requests) == asked


def test_an_archive_elsewhere_that_changes_makes_other_samples(web: Server, tmp_path: Path):
    web.files["one.tar"] = tar_of({"1.png": picture(1)})
    write(tmp_path, [{"caption": "It is.", "link": "1.png"}])
    row = ROW | {"images": {"path": "link", "tar": f"{web.url}/one.tar"}}
    catalog, store = write_catalog(tmp_path, {"s": row}), Store.open(str(tmp_path / "root"))
    first = ingest(catalog, "s", store)
    web.files["one.tar"] = tar_of({"1.png": picture(2)})
    assert ingest(catalog, "s", store).folder == first.folder
    forget_fetched(catalog, catalog.source("s"), store)
    assert ingest(catalog, "s", store).folder != first.folder


def test_json_in_a_field_is_read_and_what_is_none_is_rejected(tmp_path: Path):
    write(tmp_path, [{"said": json.dumps({"text": {"en": "Yes."}})}, {"said": "{"}, {"said": None}, {"said": "NaN"}])
    row = ROW | {"reader": {"json_fields": ["said"]}, "fields": {"caption": "said.text.en"}, "images": None}
    catalog = write_catalog(tmp_path, {"s": row})
    artefact = ingest(catalog, "s", Store.open(str(tmp_path / "root")))
    assert artefact.manifest["counts"]["samples"] == 1
    assert artefact.manifest["counts"]["rejected"] == {"bad_json": 1, "missing_field": 2}
    assert len(try_row(catalog, catalog.source("s")).samples) == 1
