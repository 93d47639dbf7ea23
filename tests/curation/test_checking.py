from pathlib import Path
from typing import Any

import pytest

from curation.catalog import Catalog
from curation.checking import CHECKS, Found, Reach, check_rows, is_wrong
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
        ({"location": {"hub": "owner/name"}}, "not checked", False),
        ({"location": {"root": "s3://bucket/x", "files": "*"}}, "not checked", False),
    ],
)
def test_sources_are_compared_with_what_the_catalog_says(tmp_path: Path, row: dict, state: str, wrong: bool):
    document = checked(tmp_path, **row)
    assert (document["state"], is_wrong(document)) == (state, wrong)
    assert bool(document["details"]) == (state in ("missing", "not checked"))


def test_size_and_counts_are_of_all_parts(tmp_path: Path):
    parts = [{"location": {"root": "data", "files": name}} for name in FILES]
    document = checked(tmp_path, parts=parts)
    assert (document["num_files"], document["records"]) == (2, 3)
    assert document["num_bytes"] == sum(map(len, FILES.values()))


def test_a_kind_of_location_is_checked_by_the_function_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there = Found(Reach.REACHABLE, num_bytes=10, records=7, revision="c" * 40, license="MIT")
    monkeypatch.setitem(CHECKS, "HubDataset", lambda *_: there)
    row = {"location": {"hub": "owner/name"}, "license": "mit", "expected": {"records": 7}, "revision": "main"}
    document = checked(tmp_path, **row)
    assert (document["state"], document["revision_found"], document["license_found"]) == ("as expected", "c" * 40, "MIT")
    assert checked(tmp_path, **{**row, "license": "CC0-1.0"})["state"] == "licence differs"


def test_what_one_part_does_not_tell_is_not_told_of_the_source(tmp_path: Path):
    parts = [{"location": {"root": "data", "files": "a.jsonl"}}, {"location": {"hub": "owner/name"}}]
    document = checked(tmp_path, parts=parts)
    assert (document["state"], document["records"], document["num_bytes"]) == ("not checked", None, None)
