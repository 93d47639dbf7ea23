import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import RejectReason
from curation.sources import json_spans
from curation.sources.json_spans import sniff_style, split_elements
from curation.sources.records import Batch
from tests.support.upstream import part, read_all

PART = part()
TRICKY = st.sampled_from(['"', "\\", '\\"', "\\\\", "[", "]", "{", "}", ",", ":", "\n", "é", "中文", "😀", "\u2028", "a"])
TEXTS = st.lists(TRICKY, max_size=6).map("".join)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(TEXTS.filter(lambda key: key not in ("_key", "_value")), VALUES, max_size=4), max_size=8)
DUMPS = st.sampled_from(
    [
        {"indent": None, "separators": (",", ":")},
        {"indent": None},
        {"indent": 1},
        {"indent": 4, "ensure_ascii": False},
        {"indent": None, "ensure_ascii": False},
    ]
)
SIZES = st.sampled_from([1, 2, 7, 64, 4096])


def read_text(text: str | bytes, *, window: int, chunk: int, name: str = "a.json") -> Batch:
    """A file of `text`, read in windows and chunks of these many bytes."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_spans, "WINDOW_BYTES", window)
        patch.setattr(json_spans, "CHUNK_BYTES", chunk)
        (Path(folder) / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_all(Path(folder), name, PART)


@given(records=RECORDS, dumps=DUMPS, window=SIZES, chunk=SIZES)
def test_an_array_gives_its_records_in_order(records: list, dumps: dict, window: int, chunk: int):
    batch = read_text(json.dumps(records, **dumps), window=window, chunk=chunk)
    assert batch.rejects == []
    assert batch.records == records
    assert batch.positions == list(range(len(records)))


@given(values=st.lists(VALUES.filter(lambda value: not isinstance(value, dict)), max_size=8), dumps=DUMPS, window=SIZES)
def test_elements_that_are_no_objects_are_found_under_value(values: list, dumps: dict, window: int):
    batch = read_text(json.dumps(values, **dumps), window=window, chunk=16)
    assert batch.records == [{"_value": value} for value in values]


@given(
    keyed=st.dictionaries(TEXTS, RECORDS.map(lambda found: found[0] if found else {}), max_size=6), window=SIZES, chunk=SIZES
)
def test_an_object_gives_its_entries_with_their_keys(keyed: dict, window: int, chunk: int):
    text = json.dumps(keyed, indent=1)
    if not keyed:
        return  # `{}` might as well be one record a line
    batch = read_text(text, window=window, chunk=chunk)
    assert batch.rejects == []
    assert batch.records == [{"_key": key, **record} for key, record in keyed.items()]
    assert batch.positions == list(range(len(keyed)))


@given(records=RECORDS, blank=st.booleans(), chunk=SIZES, crlf=st.booleans())
def test_lines_give_their_records_at_their_line_numbers(records: list, blank: bool, chunk: int, crlf: bool):
    end = ("\r\n" if crlf else "\n") * (2 if blank else 1)
    text = "".join(json.dumps(record, ensure_ascii=False) + end for record in records)
    batch = read_text(text, window=64, chunk=chunk, name="a.jsonl")
    assert batch.rejects == []
    assert batch.records == records
    assert batch.positions == [number * (2 if blank else 1) for number in range(len(records))]


@given(records=RECORDS, dumps=DUMPS, window=SIZES, chunk=SIZES, data=st.data())
def test_a_cut_array_loses_only_the_record_that_was_cut(
    records: list, dumps: dict, window: int, chunk: int, data: st.DataObject
):
    text = json.dumps(records, **dumps).encode()
    cut = data.draw(st.integers(1, len(text) - 1))
    batch = read_text(text[:cut], window=window, chunk=chunk)
    with_comma = [len(json.dumps(records[:number], **dumps).encode()[:-1].rstrip()) + 1 for number in range(1, len(records))]
    num_whole = sum(end <= cut for end in with_comma)
    assert batch.records == records[:num_whole]
    assert [reject.reason for reject in batch.rejects] == [RejectReason.BAD_JSON]
    assert batch.rejects[0].position == num_whole
    assert batch.rejects[0].raw.strip() in text


@given(text=st.binary(max_size=60) | TEXTS.map(str.encode) | VALUES.map(lambda value: json.dumps(value).encode()), window=SIZES)
def test_any_bytes_at_all_are_records_or_rejects(text: bytes, window: int):
    batch = read_text(text, window=window, chunk=8)
    assert len(batch.positions) == len(batch.records)
    if text.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n\x0b\x0c[]{},"):
        assert batch.records or batch.rejects


@pytest.mark.parametrize("malformed", ['{"a": nope}', "{'a': 1}", '{"a" 1}', '{"a": 1,}', "{]", "nonsense"])
@pytest.mark.parametrize("window", [1, 7, 4096])
def test_a_malformed_element_spoils_only_itself(malformed: str, window: int):
    batch = read_text(f'[{{"a": 1}}, {malformed}, {{"a": 2}}]', window=window, chunk=4)
    assert batch.records == [{"a": 1}, {"a": 2}]
    assert batch.positions == [0, 2]
    [reject] = batch.rejects
    assert (reject.reason, reject.position, reject.raw) == (RejectReason.BAD_JSON, 1, malformed.encode())


def test_a_malformed_line_spoils_only_itself():
    batch = read_text('{"a": 1}\n{"a": \n{"a": 2}\n', window=64, chunk=4, name="a.jsonl")
    assert batch.records == [{"a": 1}, {"a": 2}]
    assert [reject.position for reject in batch.rejects] == [1]


def test_a_malformed_entry_spoils_only_itself():
    batch = read_text('{"x": {"a": 1},\n"y": {"a": nope},\n"z": {"a": 2}}', window=5, chunk=4)
    assert [record["_key"] for record in batch.records] == ["x", "z"]
    assert [reject.raw for reject in batch.rejects] == [b'"y": {"a": nope}']


def test_text_after_the_end_is_one_reject():
    batch = read_text('[{"a": 1}, {"a": 2}] trailing, {"a": 3}', window=7, chunk=4)
    assert batch.records == [{"a": 1}, {"a": 2}]
    [reject] = batch.rejects
    assert (reject.position, reject.raw.strip()) == (2, b'trailing, {"a": 3}')


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("", "a.jsonl", "lines"),
        ('[{"a": 1}]', "a.jsonl", "array"),
        ('[\n {"a": 1},\n {"a": 2}\n]', "a.jsonl", "array"),
        ('[{"a": 1},\n {"a": 2}]', "a.ndjson", "array"),
        ('[{"a": 1}]\n[{"a": 2}]\n', "a.jsonl", "lines"),
        ("[1, 2]\n", "a.jsonl", "lines"),
        ('[{"a": 1}]', "a.json", "array"),
        ('\ufeff \n [{"a": 1}]', "a.json", "array"),
        ('{"a": 1}\n{"a": 2}\n', "a.json", "lines"),
        ('{"a": 1}\n{"a": \n{"a": 2}\n', "a.json", "lines"),
        ('{"a": 1', "a.json", "lines"),
        ('{"a": 1}\n', "a.json", "lines"),
        ('{"k": {"a": 1}}', "a.json", "object"),
        ('{\n "k": {"a": 1}\n}', "a.json", "object"),
        ('{"k": {"a": 1},\n "l": {"a": 1}}', "a.json", "object"),
        ('cut off"}\n{"a": 1}\n{"a": 2}\n', "a.json", "lines"),
    ],
)
def test_style_is_told_by_the_first_bytes(text: str, name: str, expected: str):
    assert sniff_style(text.encode(), name) == expected


def test_a_byte_order_mark_is_no_part_of_a_record():
    for text in ('[{"a": 1}]', '{"a": 1}\n', '{"k": {"a": 1}}'):
        batch = read_text("\ufeff" + text, window=64, chunk=64)
        assert batch.rejects == []
        assert batch.records[0]["a"] == 1


def test_elements_are_split_at_top_level_commas_only():
    assert split_elements(b' {"a": "x,y]"}, [1, 2] ,, 3 ') == [b'{"a": "x,y]"}', b"[1, 2]", b"3"]
    assert split_elements(b"") == []


def test_a_line_longer_than_every_window_is_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", 10)
    monkeypatch.setattr("curation.sources.json_spans.WINDOW_BYTES", 7)
    text = b'{"a": "%s"}\n{"b": 1}\n{"c": 2}\n' % (b"x" * 100)
    (tmp_path / "a.jsonl").write_bytes(text)
    spans = list(json_spans.json_spans(str(tmp_path / "a.jsonl"), "a.jsonl"))
    assert [(span.start, span.first_position) for span in spans] == [(0, 0), (text.index(b'{"b"'), 1)]
    assert spans[-1].stop == len(text)
