import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog, Expected, expand_environment, ingest_settings
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
        ({"values": {"id": {"a": "b"}}}, "can translate question and answer, not id"),
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
        ({"location": {"files": "x", "hub": "a/b"}}, "found files, hub"),
        ({"location": {"hubb": "a/b"}}, "found hubb (did you mean 'hub'?)"),
        ({"location": "x"}, "expected a mapping with one of files, hub, http, release"),
        ({"location": {"root": "https://a.org/b", "files": "x"}}, "a web server does not list its files"),
        ({"location": {"hub": "the_cauldron"}}, "expected the name of a dataset, `owner/name`"),
        ({"location": {"hub": "a/b", "splt": "x"}}, "unknown key 'splt' (did you mean 'split'?); valid keys: config, hub, rev"),
        ({"location": {"hub": "a/b"}, "reader": {"format": "json"}}, "a Hub dataset comes as `format: parquet`"),
        ({"location": {"hub": "a/b"}, "join": {"x": {"file": "y"}}}, "have no files beside them"),
        ({"location": {"http": []}}, "at least 1 item"),
        ({"location": {"http": [{"url": "ftp://a.org/x"}]}}, "expected http://... or https://..."),
        ({"location": {"http": [{"url": "https://u:p@a.org/x"}]}}, "credentials come from the environment"),
        ({"location": {"http": [{"url": "https://a.org/"}]}}, "ends in no file name"),
        ({"location": {"http": [{"url": "https://a.org/%2e%2e"}]}}, "leaves the location"),
        ({"location": {"http": [{"url": "https://a.org/x", "name": "../x"}]}}, "leaves the location"),
        ({"location": {"http": [{"url": "https://a.org/x", "size": -1}]}}, "greater than or equal to 0"),
        ({"location": {"http": [{"url": "https://a.org/x", "sha256": "AB"}]}}, "should match pattern"),
        ({"location": {"http": [{"url": "https://a.org/x"}, {"url": "https://b.org/x"}]}}, "two files are called 'x'"),
        ({"location": {"release": "big"}}, "no upstream 'big'; the catalog has none"),
        ({"location": {"release": "big", "source": []}}, "at least 1 item"),
        ({"location": {"release": "big", "folder": "../x"}}, "leaves the location"),
        ({"location": {"release": "big", "where": {}}}, "give rules"),
        ({"location": {"release": "big", "where": {"rest": True, "answer": "x"}}}, "not both"),
        ({"location": {"release": "big", "where": {"answer": "("}}}, "is no regular expression"),
        ({"location": {"release": "big", "where": {"answer": "(?=x)"}}}, "look-around"),
        ({"location": {"release": "big"}, "images": {"path": "image"}}, "find their pictures by `archives: true`"),
        ({"location": {"release": "big"}, "reader": {"format": "parquet"}}, "the records of a release come as `format: json`"),
        ({"images": {"path": "image", "archives": True}}, "find their pictures by `archives: true`"),
        ({"images": {"path": "image", "archives": True, "zip": "a"}}, "zip and archives"),
        ({"images": {"bytes": "image", "archives": True}}, "`archives` needs `path`"),
        ({"tags": ["Two Words"]}, "should match pattern"),
        ({"prompt": []}, "at least 1 item"),
        ({"prompt": [{"text": "x", "answer": "["}]}, "is no regular expression"),
        ({"expected": {"records": 3, "annotation_files": {"a": 1, "b": 1}}}, "sum to 2, but records is 3"),
        ({"expected": {"records": 3, "samples_7m": 4}}, "samples_7m: 4 is more than records, 3"),
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


# --- Releases and benchmarks --------------------------------------------------------------------------------------------

CHATS: dict[str, Any] = {"layout": "conversations", "fields": {"turns": "conversations"}}
PICTURES = {"path": "image", "archives": True}


def whole(tmp_path: Path, **kinds: dict[str, Any]) -> Catalog:
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(kinds)), sort_keys=False))  # a copy, so that nothing is an alias
    return load_catalog(path)


def test_a_release_gives_its_defaults_to_the_parts_that_claim_its_rows(tmp_path: Path):
    upstreams = {
        "big": {"root": "mirror", "records": "all.jsonl", "defaults": {**CHATS, "images": PICTURES}},
        "small": {"hub": "a/b", "records": ["x.jsonl"], "defaults": CHATS},
    }
    first = {"category": "ocr", "location": {"release": "big", "source": "a.json", "folder": "a"}}
    second = {
        "category": "general",
        "parts": [{"location": {"release": "small"}}, {"location": {"release": "big"}, "images": {**PICTURES, "limit": 2}}],
    }
    catalog = whole(tmp_path, sources={"first": first, "second": second}, upstreams=upstreams)
    assert catalog.source("first").parts[0].images == catalog.source("second").parts[1].images.model_copy(update={"limit": 16})  # type: ignore[union-attr]
    assert catalog.source("second").parts[0].images is None
    assert [(row.name, number) for row, number, _ in catalog.claims("big")] == [("first", 0), ("second", 1)]
    assert catalog.root_of(catalog.upstreams["big"]) == tmp_path / "mirror"
    with pytest.raises(CatalogError, match="no folder of this machine"):
        catalog.root_of(catalog.upstreams["small"])


def test_what_takes_the_rest_is_asked_last(tmp_path: Path):
    upstreams = {"big": {"root": "mirror", "records": "all.jsonl", "defaults": CHATS}}
    rest = {"category": "ocr", "location": {"release": "big", "where": {"rest": True}}}
    some = {"category": "ocr", "location": {"release": "big", "where": {"answer": "x"}}}
    benchmarks = {"test": {"location": {"release": "big", "source": "test.json"}}}
    catalog = whole(tmp_path, sources={"rest": rest, "some": some}, upstreams=upstreams, benchmarks=benchmarks)
    assert [row.name for row, _, _ in catalog.claims("big")] == ["some", "test", "rest"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ({"upstream": {}}, "unknown key 'upstream' (did you mean 'upstreams'?)"),
        ({"upstreams": []}, "upstreams: expected a mapping of names"),
        ({"upstreams": {"big": 3}}, "expected a description of the upstream"),
        ({"upstreams": {"big": {"records": "x"}}}, "give either `hub` or `root`"),
        ({"upstreams": {"big": {"records": "x", "hub": "a/b", "root": "c"}}}, "give either `hub` or `root`"),
        ({"upstreams": {"big": {"records": "x", "root": "c", "revision": "d"}}}, "`revision` belongs to `hub`"),
        ({"upstreams": {"big": {"records": "../x", "root": "c"}}}, "leaves the location"),
        ({"upstreams": {"big": {"records": "x", "root": "c", "archives": {"a": "/x"}}}}, "leaves the location"),
        ({"upstreams": {"big": {"records": "x", "root": "c", "archivs": {}}}}, "unknown key 'archivs'"),
        ({"upstreams": {"big": {"records": "x", "root": "c", "defaults": {"layuot": "qa"}}}}, "defaults"),
        ({"upstreams": {"big": {"records": "x", "root": "c", "defaults": {**CHATS, "location": {}}}}}, "without `location`"),
        ({"benchmarks": {"receipts": ROW}}, "call it 'receipts-test'"),
        ({"benchmarks": {"test": {**ROW, "prompt": "x"}}}, "unknown key 'prompt'"),
        ({"benchmarks": {"test": {**ROW, "category": "x"}}}, "unknown category 'x'"),
        ({"benchmarks": {"test": 3}}, "expected a description of the benchmark"),
    ],
)
def test_upstreams_and_benchmarks_that_are_wrong_are_refused(tmp_path: Path, kinds: dict[str, Any], expected: str):
    with pytest.raises(CatalogError) as caught:
        whole(tmp_path, sources={"receipts": ROW}, **kinds)
    assert f"{tmp_path / 'catalog.yaml'}:" in str(caught.value)
    assert expected in str(caught.value)


def test_an_unknown_upstream_is_answered_with_the_nearest_at_its_line(tmp_path: Path):
    text = """sources:
  chats:
    category: ocr
    layout: conversations
    fields: {turns: turns}
    location:
      release: bgi
upstreams:
  big: {root: x, records: y}
"""
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(CatalogError, match=r"yaml:7: .*no upstream 'bgi' \(did you mean 'big'\?\)"):
        load_catalog(tmp_path / "catalog.yaml")


def test_a_benchmark_is_described_like_a_source_and_needs_no_category(tmp_path: Path):
    row = {key: value for key, value in ROW.items() if key != "category"}
    catalog = whole(tmp_path, sources={"receipts": ROW}, benchmarks={"receipts-test": {**row, "expected": {"images": 4}}})
    benchmark = catalog.benchmarks["receipts-test"]
    assert (benchmark.category, benchmark.expected.images) == (None, 4)
    assert benchmark.parts[0] == catalog.source("receipts").parts[0]


def test_a_hub_dataset_is_read_as_parquet(tmp_path: Path):
    source = load(tmp_path, ROW | {"location": {"hub": "a/b", "config": "c"}}).source("receipts")
    assert source.parts[0].reader.format == "parquet"


def test_settings_follow_what_a_location_says_and_not_where_it_lies(tmp_path: Path):
    def settings(location: dict[str, Any]) -> str:
        upstreams = {"big": {"root": "mirror", "records": "r"}, "other": {"hub": "a/b", "records": "r"}}
        return ingest_settings(
            whole(tmp_path, sources={"receipts": ROW | {"location": location}}, upstreams=upstreams).source("receipts")
        )

    def page(url: str, **more: Any) -> dict[str, Any]:
        return {"http": [{"url": url, **more}]}

    assert settings({"root": "s3://bucket/x", "files": "*.json"}) == settings({"root": "data", "files": "*.json"})
    assert settings(page("https://a.org/x.json")) == settings(page("https://mirror.org/x.json", size=3))
    places = [
        {"root": "data", "files": "*.json"},
        page("https://a.org/x.json"),
        page("https://a.org/x.json", name="y.json"),
        {"hub": "a/b"},
        {"hub": "a/b", "split": "test"},
        {"hub": "a/b", "config": "c"},
        {"release": "big"},
        {"release": "big", "source": "a.json"},
        {"release": "big", "folder": "a"},
        {"release": "big", "where": {"questions": 1}},
        {"release": "other"},
    ]
    assert len({settings(place) for place in places}) == len(places)


def test_a_prompt_is_a_text_or_chosen_by_question_and_answer(tmp_path: Path):
    assert load(tmp_path, ROW).source("receipts").prompts == ()
    assert load(tmp_path, ROW | {"prompt": "Briefly."}).source("receipts").prompt_texts == ("Briefly.",)
    chosen = load(tmp_path, ROW | {"prompt": [{"text": "a", "answer": "^[A-Z]$"}, {"text": "b"}]}).source("receipts")
    assert chosen.prompt_texts == ("a", "b")
    assert chosen.prompts[0].answer == "^[A-Z]$"


def test_a_source_is_one_annotation_file_unless_it_names_several(tmp_path: Path):
    assert load(tmp_path, ROW | {"expected": {"records": 3}}).source("receipts").annotation_files == {"receipts": 3}
    several = {"records": 3, "annotation_files": {"a.json": 1, "b.json": 2}}
    assert load(tmp_path, ROW | {"expected": several}).source("receipts").annotation_files == {"a.json": 1, "b.json": 2}


def test_a_rounded_count_allows_for_the_rounding():
    assert not Expected(records=15_000).agrees_with(15_501)
    assert Expected(records=15_000, rounded=True).agrees_with(15_501)
    assert not Expected(records=15_000, rounded=True).agrees_with(16_001)
    assert Expected().agrees_with(3)
