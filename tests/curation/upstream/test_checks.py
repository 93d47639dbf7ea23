from pathlib import Path
from typing import Any

import pytest

from curation.catalog.spec import Catalog
from curation.upstream.checks import LocationCheck, check_location, check_row, check_upstream
from tests.support.fake_hub import COMMIT, fake_hub
from tests.support.http_server import serving
from tests.support.release_world import local_release, release_catalog, release_files
from tests.support.upstream import write_catalog, write_files

ROW = {"category": "ocr", "layout": "qa", "fields": {"question": "q", "answer": "a"}}


def check(folder: Path, location: dict[str, Any]) -> LocationCheck:
    catalog = write_catalog(folder, {"data": ROW | {"location": location}})
    [found] = check_row(catalog, catalog.source("data"))
    assert check_location(catalog, catalog.source("data").parts[0].location) == found
    return found


def test_files_in_a_folder(tmp_path: Path):
    write_files(tmp_path / "d", {"a.json": "[]", "b.json": "[1]"})
    found = check(tmp_path, {"root": "d", "files": "*.json"})
    assert (found.num_files, found.num_bytes, found.is_fine) == (2, 5, True)
    assert "no file matches '*.txt'" in str(check(tmp_path, {"root": "d", "files": "*.txt"}).problem)
    assert "is no folder" in str(check(tmp_path, {"root": "none", "files": "*"}).problem)


def test_files_at_a_url(tmp_path: Path):
    import fsspec

    fsspec.filesystem("memory").pipe({"/checks/a.json": b"[]"})
    assert check(tmp_path, {"root": "memory://checks", "files": "*.json"}).num_bytes == 2
    assert "no file matches" in str(check(tmp_path, {"root": "memory://checks", "files": "*.txt"}).problem)


def test_files_on_the_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "1")
    with serving({"a.json": b"12345"}) as server:
        found = check(tmp_path, {"http": [{"url": f"{server.url}/a.json", "size": 5}]})
        assert (found.num_files, found.num_bytes, found.problem) == (1, 5, None)
        assert {request.method for request in server.requests} == {"HEAD"}
        assert "has 5 bytes now, the catalog says 6" in str(
            check(tmp_path, {"http": [{"url": f"{server.url}/a.json", "size": 6}]}).problem
        )
        assert "it is not there" in str(check(tmp_path, {"http": [{"url": f"{server.url}/b.json"}]}).problem)
    assert "no answer" in str(check(tmp_path, {"http": [{"url": "http://127.0.0.1:9/a.json"}]}).problem)


def test_a_dataset_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with fake_hub(monkeypatch, {"owner/name": {"a.jsonl": b"{}\n"}}):
        found = check(tmp_path, {"hub": "owner/name"})
        assert (found.commit, found.license, found.num_bytes, found.problem) == (COMMIT, "cc-by-4.0", 3, None)
        assert "there is no revision 'v2'" in str(check(tmp_path, {"hub": "owner/name", "revision": "v2"}).problem)
        assert "no such dataset" in str(check(tmp_path, {"hub": "owner/gone"}).problem)


def test_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    size = len(release_files()["jsons/Cambrian.jsonl"])

    def both(catalog: Catalog) -> LocationCheck:
        [of_row] = check_row(catalog, catalog.source("dvqa"))
        of_upstream = check_upstream(catalog, catalog.upstreams["cambrian"])
        assert (of_row.num_bytes, of_row.commit, of_row.problem) == (
            of_upstream.num_bytes,
            of_upstream.commit,
            of_upstream.problem,
        )
        return of_row

    assert both(local_release(tmp_path / "local")).num_bytes == size
    with fake_hub(monkeypatch, {"owner/release": release_files()}):
        found = both(release_catalog(tmp_path / "hub", {"hub": "owner/release"}))
        assert (found.num_bytes, found.commit, found.license) == (size, COMMIT, "cc-by-4.0")
        assert "no such dataset" in str(both(release_catalog(tmp_path / "none", {"hub": "owner/none"})).problem)
