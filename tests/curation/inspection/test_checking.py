from pathlib import Path
from typing import Any

import pytest

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog
from curation.inspection import checking
from curation.inspection.checking import check_rows, is_wrong
from curation.upstream.checks import LocationCheck
from tests.support.upstream import write_catalog, write_files

FILES = {"a.jsonl": '{"q": 1, "a": 2}\n{"q"\n', "b.json": '[{"q": 1}]'}


def checked(folder: Path, **row: Any) -> dict[str, Any]:
    write_files(folder / "data", FILES)
    base = {"category": "ocr", "layout": "qa", "fields": {"question": "q", "answer": "a"}}
    catalog: Catalog = write_catalog(folder, {"data": {**base, "location": {"root": "data", "files": "*"}, **row}})
    [document] = check_rows(catalog, catalog.sources.values())
    return document


@pytest.mark.parametrize(
    ("row", "state", "wrong"),
    [
        ({"expected": {"records": 3}}, "as expected", False),
        ({"expected": {"records": 4}}, "count differs", True),
        ({"expected": {"records": 900, "rounded": True}}, "as expected", False),
        ({}, "reachable", False),
        ({"location": {"root": "data", "files": "*.csv"}}, "missing", True),
        ({"location": {"root": "gone", "files": "*"}}, "missing", True),
        ({"location": {"root": "${CURATION_TEST_NOT_SET}", "files": "*"}}, "missing", True),
        ({"location": {"hub": "owner/name"}}, "unreachable", True),
        ({"location": {"root": "nowhere://bucket/x", "files": "*"}}, "unreachable", True),
    ],
)
def test_sources_are_compared_with_what_the_catalog_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict, state: str, wrong: bool
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    document = checked(tmp_path, **row)
    assert (document["state"], is_wrong(document)) == (state, wrong)
    assert bool(document["details"]) == (state in ("missing", "unreachable"))


def test_size_and_counts_are_of_all_parts(tmp_path: Path):
    parts = [{"location": {"root": "data", "files": name}} for name in FILES]
    document = checked(tmp_path, parts=parts)
    assert (document["num_files"], document["records"]) == (2, 3)
    assert document["num_bytes"] == sum(map(len, FILES.values()))


def answering(monkeypatch: pytest.MonkeyPatch, check: LocationCheck) -> list[object]:
    """Let every location elsewhere answer with `check`; the list takes what is asked about."""
    asked: list[object] = []

    def answer(_catalog: Catalog, location: object) -> LocationCheck:
        asked.append(location)
        return check

    monkeypatch.setattr(checking, "check_location", answer)
    return asked


def test_what_a_host_says_is_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, LocationCheck("hub", "owner/name", 2, 10, "c" * 40, "MIT"))
    row = {"location": {"hub": "owner/name"}, "license": "mit", "revision": "main"}
    document = checked(tmp_path, **row)
    assert (document["state"], document["revision_found"], document["license_found"]) == ("reachable", "c" * 40, "MIT")
    assert (document["num_files"], document["num_bytes"]) == (2, 10)
    assert checked(tmp_path, **{**row, "license": "CC0-1.0"})["state"] == "licence differs"
    assert checked(tmp_path, **{**row, "license": "unknown"})["state"] == "reachable"


def test_a_release_is_asked_once_and_its_label_is_no_licence_of_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = answering(monkeypatch, LocationCheck("release", "owner/all", 1, 9, "c" * 40, "apache-2.0"))
    catalog = load_catalog(Path(__file__).parents[3] / "catalog.yaml")
    rows = [catalog.sources[name] for name in ("dvqa", "synthdog", "clevr")]
    documents = check_rows(catalog, rows)
    assert len(asked) == 1
    assert [(document["state"], document["license_found"]) for document in documents] == [("reachable", None)] * 3


def test_what_one_part_does_not_tell_is_not_told_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, LocationCheck("hub", "owner/name"))
    parts = [{"location": {"root": "data", "files": "a.jsonl"}}, {"location": {"hub": "owner/name"}}]
    document = checked(tmp_path, parts=parts)
    assert (document["state"], document["records"], document["num_bytes"]) == ("reachable", None, None)
