from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.catalog import Catalog, expand_environment, ingest_settings, load_catalog
from curation.errors import CatalogError

ROW: dict[str, Any] = {
    "category": "ocr",
    "layout": "qa",
    "location": {"root": "data", "files": "*.json"},
    "fields": {"question": "q", "answer": "a"},
}


def load(tmp_path: Path, row: dict[str, Any], name: str = "receipts") -> Catalog:
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"sources": {name: row}}, sort_keys=False))
    return load_catalog(path)


def refusal(tmp_path: Path, row: dict[str, Any], name: str = "receipts") -> str:
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, row, name)
    assert caught.value.exit_code == 2
    assert f"{tmp_path / 'catalog.yaml'}:" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"category": "ocrr"}, "unknown category 'ocrr' (did you mean 'ocr'?)"),
        ({"layout": "q_a"}, "unknown layout 'q_a' (did you mean 'qa'?)"),
        ({"licence": "MIT"}, "unknown key 'licence' (did you mean 'license'?)"),
        ({"location": {"root": "x"}}, "required key 'files' is missing"),
        ({"location": {"files": "x", "rot": "y"}}, "unknown key 'rot' (did you mean 'root'?); valid keys: files, root"),
        ({"fields": {"question": "q"}}, "layout qa needs fields: answer"),
        ({"fields": {"question": "q", "answer": "a", "turns": "t"}}, "layout qa has no field turns"),
        ({"fields": {"question": "{q", "answer": "a"}}, "a single '{'"),
        ({"fields": {"question": "{q|upper}", "answer": "a"}}, "unknown filter 'upper'"),
        ({"fields": {"question": "two words", "answer": "a"}}, "is no field path"),
        ({"values": {"id": {"a": "b"}}}, "not id"),
        ({"reader": {"format": "delimited"}}, "needs `columns"),
        ({"reader": {"format": "delimited", "columns": ["q"], "separator": ", "}}, "one character"),
        ({"reader": {"format": "csv"}}, "'json', 'delimited', 'parquet' or 'webdataset'"),
        ({"images": {"folder": "x"}}, "exactly one of"),
        ({"images": {"path": "p", "bytes": "b"}}, "exactly one of"),
        ({"images": {"path": "p", "zip": "a", "tar": "b"}}, "zip and tar"),
        ({"images": {"bytes": "p", "zip": "a"}}, "`zip` needs `path`"),
        ({"images": {"path": {"text": "a.png"}}}, "path: "),
        ({"images": {"path": "p", "folder": "/etc"}}, "'/etc' leaves the location"),
        ({"images": {"path": "p", "zip": "../a.zip"}}, "leaves the location"),
        ({"images": {"path": "p", "limit": 0}}, "greater than or equal to 1"),
        ({"join": {"x": {"file": "../{q}.json"}}}, "leaves the location"),
        ({"join": {"x": {"file": "{q.json"}}}, "a single '{'"),
        ({"join": {"x": {"file": "a", "format": "lines"}}}, "`line` belongs to"),
        ({"layout": "conversations", "fields": {"turns": "{t}"}}, "fields.turns"),
        ({"layout": "conversations", "fields": {"turns": ["t"]}}, "fields.turns"),
        ({"layout": "multiple_choice", "fields": {**ROW["fields"], "options": ["a", "b"]}}, "fields.options"),
        ({"layout": "multiple_choice", "fields": {**ROW["fields"], "options": {"A": "{a}"}}}, "fields.options"),
        ({"expected": {"records": -1}}, "greater than or equal to 0"),
        ({"parts": []}, "expected a list of parts"),
        ({"parts": ["x"]}, "expected a part"),
        ({"license": 3}, "found a number 3"),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_refused(tmp_path: Path, changes: dict[str, Any], expected: str):
    assert expected in refusal(tmp_path, ROW | changes)


def test_an_error_points_at_the_line_of_its_part(tmp_path: Path):
    text = """sources:
  receipts:
    category: ocr
    fields: {question: q, answer: a}
    parts:
    - layout: qa
      location: {files: a.json}
    - layout: qaa
      location: {files: b.json}
"""
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(CatalogError, match=r"catalog\.yaml:8: sources\.receipts\.parts\.1\.layout: unknown layout 'qaa'"):
        load_catalog(tmp_path / "catalog.yaml")


@pytest.mark.parametrize("name", ["Receipts", "a b", "-a", "x" * 49, "a/b", "a.b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str):
    assert "must be lower-case letters" in refusal(tmp_path, ROW, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a mapping `sources:`"),
        ("sources: []\n", "expected a mapping `sources:`"),
        ("sources: {}\nsorces: {}\n", "unknown key 'sorces'"),
        ("sources:\n  a: 3\n", "expected a description of the source"),
        ("sources:\n  a: {category: ocr}\n", "required key"),
    ],
)
def test_a_file_that_is_no_catalog_is_refused(tmp_path: Path, text: str, expected: str):
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(CatalogError) as caught:
        load_catalog(tmp_path / "catalog.yaml")
    assert expected in str(caught.value)


def test_keys_of_the_row_are_defaults_of_its_parts(tmp_path: Path):
    parts = [{"location": {"root": "a", "files": "x"}}, {"fields": {"question": "Q", "answer": "A"}}]
    source = load(tmp_path, ROW | {"parts": parts}).source("receipts")
    assert [part.location.root for part in source.parts] == ["a", "data"]
    assert [part.fields.question for part in source.parts] == ["q", "Q"]


def test_a_join_may_name_a_file_with_spaces(tmp_path: Path):
    assert load(tmp_path, ROW | {"join": {"x": {"file": "extra data/a b.json"}}})


def test_locations_start_at_the_catalog_and_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def root(text: str) -> Path:
        catalog = load(tmp_path, ROW | {"location": {"root": text, "files": "*"}})
        return catalog.root_of(catalog.source("receipts").parts[0])

    monkeypatch.setenv("CURATION_TEST_DATA", "/somewhere")
    monkeypatch.delenv("CURATION_TEST_NONE", raising=False)
    assert root("data") == tmp_path / "data"
    assert root("${CURATION_TEST_DATA}/x") == Path("/somewhere/x")
    assert root("${CURATION_TEST_NONE:-near}/x") == tmp_path / "near" / "x"
    assert root("/far") == Path("/far")
    with pytest.raises(CatalogError, match="CURATION_TEST_NONE is not set"):
        root("${CURATION_TEST_NONE}/x")
    assert expand_environment("$HOME {x}") == "$HOME {x}"


def test_an_unknown_source_is_answered_with_the_nearest(tmp_path: Path):
    with pytest.raises(CatalogError, match=r"no source 'reciepts' .*did you mean 'receipts'"):
        load(tmp_path, ROW).source("reciepts")


def test_only_what_changes_samples_changes_the_settings(tmp_path: Path):
    def settings(**changes: Any) -> str:
        return ingest_settings(load(tmp_path, ROW | changes).source("receipts"))

    same = [{"license": "MIT"}, {"category": "math"}, {"prompt": "Briefly."}, {"expected": {"records": 3}}]
    other = [{"location": {"root": "data", "files": "b"}}, {"values": {"answer": {"1": "one"}}}, {"reader": {"records": "one"}}]
    assert {settings(**changes) for changes in same} == {settings()}
    assert settings(location={"root": "elsewhere", "files": "*.json"}) == settings()
    assert len({settings(**changes) for changes in other}) == 3
    assert settings() not in {settings(**changes) for changes in other}
