import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import RejectReason
from curation.shard_format import BLOCK_BYTES
from curation.sources.readers import chunks, each_span, read, survey
from curation.sources.records import CHUNK_BYTES, CHUNK_SPANS, RAW_LIMIT_BYTES, Batch, ByteSpan, LostSpan, TarSpan
from curation.sources.tar_samples import TAR_SPAN_SAMPLES
from tests.support.upstream import part, read_all, write_files


def read_text(folder: Path, text: str | bytes, **reader: object) -> Batch:
    write_files(folder, {"data": text})
    return read_all(folder, "data", part(reader=reader))


def details(batch: Batch) -> list[tuple[int, str]]:
    return [(reject.position, reject.reason.value) for reject in batch.rejects]


# --- JSON ---------------------------------------------------------------------------------------------------------------


def test_nan_and_infinity_are_absent_values(tmp_path: Path):
    batch = read_text(tmp_path, '[{"q": NaN, "a": 1}, {"q": [Infinity, -Infinity], "a": "NaN"}]')
    assert batch.records == [{"q": None, "a": 1}, {"q": [None, None], "a": "NaN"}]
    assert batch.rejects == []


@pytest.mark.parametrize("value", [1, "text", [1, 2], None])
def test_a_record_that_is_no_object_is_found_under_value(tmp_path: Path, value: object):
    write_files(tmp_path, {"a.jsonl": f'{{"a": 0}}\n{json.dumps(value)}\n'})
    batch = read_all(tmp_path, "a.jsonl", part())
    assert batch.records == [{"a": 0}, {"_value": value}]
    assert batch.positions == [0, 1]


LINES = st.lists(
    st.sampled_from(
        [
            b'{"q": "a"}', b'{"q": "\\ud83d\\ude00"}', b'{"q": 1, "q": 2}', b' {"a": [1, {}]} \r', b"", b" ", b"\x0c", b"\r",
            b'{"q": NaN}', b'{"q": "\\ud83d"}', b'{"q": "\xff"}', b'{"q": 1}{"q": 2}', b'{"q": 1e999}', b"null", b"3", b"[1]",
            b"{", b'{"q": "\x01"}', b"\xef\xbb\xbf{}", b'{"q": "\xe2\x80\xa8\xc2\x85"}',
        ]
    ),
    max_size=6,
)  # fmt: skip


@given(lines=LINES, end=st.sampled_from([b"", b"\n"]))
def test_lines_read_together_are_what_each_line_is(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes):
    folder = write_files(tmp_path_factory.mktemp("lines"), {"a.jsonl": b"\n".join(lines) + end})
    whole = read_all(folder, "a.jsonl", part())
    alone = [
        (place, read_line(folder, line.removeprefix(b"\xef\xbb\xbf") if not place else line))
        for place, line in enumerate(lines)
    ]
    assert list(zip(whole.positions, whole.records, strict=True)) == [
        (n, record) for n, batch in alone for record in batch.records
    ]
    found = [(reject.position, reject.detail, reject.raw) for reject in whole.rejects]
    assert found == [(n, reject.detail, reject.raw) for n, batch in alone for reject in batch.rejects]


def read_line(folder: Path, line: bytes) -> Batch:
    """One line as one record of a file read line by line, with another that is no JSON so that none are parsed together."""
    (folder / "line").write_bytes(b"?\n" + line)
    batch = read(folder, ByteSpan("line", "lines", 0, len(line) + 2, -1), part())
    return Batch("line", batch.positions, batch.records, batch.rejects[1:])


def test_one_record_a_file(tmp_path: Path):
    assert read_text(tmp_path, '{"a": {"b": 1}}', records="one").records == [{"a": {"b": 1}}]
    assert read_text(tmp_path, "[1, 2]", records="one").records == [{"_value": [1, 2]}]


@pytest.mark.parametrize("text", ["", "  \n", "{"])
def test_a_file_that_should_be_one_record_is_one_reject(tmp_path: Path, text: str):
    assert details(read_text(tmp_path, text, records="one")) == [(0, "bad_json")]


@pytest.mark.parametrize("reader", [{}, {"format": "delimited", "columns": ["a"]}])
def test_an_empty_file_holds_no_records(tmp_path: Path, reader: dict):
    batch = read_text(tmp_path, "", **reader)
    assert (batch.records, batch.rejects) == ([], [])


def test_two_values_on_a_line_are_one_bad_record(tmp_path: Path):
    batch = read_text(tmp_path, '{"a": 1}\n{"a": 2},{"a": 3}\n{"a": 4}\n')
    assert batch.records == [{"a": 1}, {"a": 4}]
    assert details(batch) == [(1, "bad_json")]


def test_raw_bytes_of_rejects_are_cut(tmp_path: Path):
    batch = read_text(tmp_path, b'{"a": 1}\n{"a": "' + b"x" * 100_000 + b'\n{"a": 2}\n')
    assert len(batch.rejects[0].raw) == RAW_LIMIT_BYTES
    assert len(batch.records) == 2


def test_a_record_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sources.json_records.MAX_RECORD_BYTES", 20)
    batch = read_text(tmp_path, '{"a": 1}\n{"a": "' + "x" * 30 + '"}\n')
    assert batch.records == [{"a": 1}]
    assert details(batch) == [(1, "bad_json")]


# --- Delimited text -----------------------------------------------------------------------------------------------------

COLUMNS = {"format": "delimited", "columns": ["q", "a"]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_are_rows(tmp_path: Path, end: str, mark: str):
    batch = read_text(tmp_path, mark + end.join(["one\tfirst", "", "two\t", "three\tthird"]), **COLUMNS)
    assert batch.records == [{"q": "one", "a": "first"}, {"q": "two", "a": ""}, {"q": "three", "a": "third"}]
    assert batch.positions == [0, 2, 3]


def test_rows_of_another_width_are_refused(tmp_path: Path):
    batch = read_text(tmp_path, b"one\n1\t2\t3\nq\ta\n\xff\ta\n", **COLUMNS)
    assert batch.records == [{"q": "q", "a": "a"}]
    assert details(batch) == [(0, "unsupported_value"), (1, "unsupported_value"), (3, "unsupported_value")]
    assert batch.rejects[1].raw == b"1\t2\t3"
    assert "found 3 cells, expected 2: q, a" in batch.rejects[1].detail


@pytest.mark.parametrize("quoting", [False, True])
@pytest.mark.parametrize("chunk", [4, 4096])
def test_columns_are_named_by_the_header(tmp_path: Path, quoting: bool, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", chunk)
    text = "\ufeffq,a\r\none,first\r\ntwo,second\r\n"
    batch = read_text(tmp_path, text, format="delimited", header=True, separator=",", quoting=quoting)
    assert batch.records == [{"q": "one", "a": "first"}, {"q": "two", "a": "second"}]
    assert batch.positions == [1, 2]


@pytest.mark.parametrize("quoting", [False, True])
def test_columns_of_the_row_replace_the_header(tmp_path: Path, quoting: bool):
    batch = read_text(tmp_path, "x\ty\none\tfirst\n", **COLUMNS, header=True, quoting=quoting)
    assert batch.records == [{"q": "one", "a": "first"}]


def test_quotes_are_signs_unless_asked_for(tmp_path: Path):
    text = '"one\ttwo"\n'
    assert read_text(tmp_path, text, **COLUMNS).records == [{"q": '"one', "a": 'two"'}]
    batch = read_text(tmp_path, '"a ""b""\nc"\t"d\te"\n', **COLUMNS, quoting=True)
    assert batch.records == [{"q": 'a "b"\nc', "a": "d\te"}]


@pytest.mark.parametrize("quoting", [False, True])
def test_escapes_are_line_breaks_when_asked_for(tmp_path: Path, quoting: bool):
    batch = read_text(tmp_path, "one\\ntwo\tx\\ty\n", **COLUMNS, unescape=True, quoting=quoting)
    assert batch.records == [{"q": "one\ntwo", "a": "x\ty"}]


def test_a_long_quoted_cell_is_read(tmp_path: Path):
    text = f'one\t"{"x" * 200_000}"\ntwo\tsecond\n'
    batch = read_text(tmp_path, text, **COLUMNS, quoting=True)
    assert [len(record["a"]) for record in batch.records] == [200_000, 6]


def test_a_quoted_file_that_is_not_text_is_one_reject(tmp_path: Path):
    assert details(read_text(tmp_path, b"\xff\xfe", **COLUMNS, quoting=True)) == [(0, "unsupported_value")]


CELLS = st.text(st.characters(exclude_characters="\n\r\t", exclude_categories=["Cs"]), max_size=5)


@given(rows=st.lists(st.tuples(CELLS, CELLS).filter(any), max_size=8))
def test_rows_come_back_as_written(tmp_path_factory: pytest.TempPathFactory, rows: list):
    folder = tmp_path_factory.mktemp("rows")
    batch = read_text(folder, "\n".join("\t".join(row) for row in rows).removeprefix("\ufeff"), **COLUMNS)
    expected = [{"q": q, "a": a} for q, a in rows]
    if expected:
        expected[0]["q"] = expected[0]["q"].removeprefix("\ufeff")
    assert batch.records == expected


# --- Parquet ------------------------------------------------------------------------------------------------------------

PARQUET = {"format": "parquet"}


def write_parquet(path: Path, rows: list[dict], **options: object) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_rows_of_all_row_groups_are_read(tmp_path: Path):
    rows = [{"q": f"q{number}", "a": {"text": [number]}} for number in range(7)]
    write_parquet(tmp_path / "data", rows, row_group_size=3)
    batch = read_all(tmp_path, "data", part(reader=PARQUET))
    assert batch.records == rows
    assert batch.positions == list(range(7))


@pytest.mark.parametrize("data", [b"", b"no parquet", b"PAR1" * 5])
def test_a_file_that_is_no_parquet_is_one_reject(tmp_path: Path, data: bytes):
    batch = read_text(tmp_path, data, **PARQUET)
    assert len(batch.rejects) == 1
    assert str(tmp_path) not in batch.rejects[0].detail


def test_a_damaged_row_group_is_one_reject(tmp_path: Path):
    path = write_parquet(tmp_path / "data", [{"q": "x" * 99, "a": str(n)} for n in range(10)], row_group_size=5)
    data = bytearray(path.read_bytes())
    data[4:40] = b"\xff" * 36
    path.write_bytes(data)
    batch = read_all(tmp_path, "data", part(reader=PARQUET))
    assert len(batch.rejects) == 1
    assert batch.positions == [5, 6, 7, 8, 9]


def test_a_text_that_is_not_utf8_spoils_only_its_row(tmp_path: Path):
    texts = pa.array([b"good", b"\xff\xfe", b"fine"]).view(pa.string())
    pq.write_table(pa.table({"q": texts}), tmp_path / "data")
    batch = read_all(tmp_path, "data", part(reader=PARQUET))
    assert batch.records == [{"q": "good"}, {"q": "fine"}]
    assert (batch.positions, details(batch)) == ([0, 2], [(1, "unsupported_value")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"x", 1), (None, 0), ([b"x", b"y"], 2), ([], 0), ({"bytes": b"x", "path": None}, 1), (None, 0)],
)
def test_pictures_in_a_column_are_counted_not_kept(tmp_path: Path, value: object, expected: int):
    write_parquet(tmp_path / "data", [{"q": "?", "img": value}, {"q": "?", "img": value}])
    batch = read_all(tmp_path, "data", part(reader=PARQUET, images={"bytes": "img"}))
    assert batch.records == [{"q": "?", "_num_pictures": expected}] * 2


# --- WebDataset tars ----------------------------------------------------------------------------------------------------

TAR = {"format": "webdataset"}


def tar_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


MEMBERS = {
    f"{n:03d}.{name}": data for n in range(5) for name, data in (("json", b'{"n": %d}' % n), ("txt", b"t"), ("jpg", b"j" * 600))
}


def test_members_of_a_key_are_one_record(tmp_path: Path):
    batch = read_text(tmp_path, tar_bytes({**MEMBERS, "a.b/c.d.json": b"[1]", "a.b/c.e.png": b""}), **TAR)
    assert [record["_key"] for record in batch.records] == ["000", "001", "002", "003", "004", "a.b/c"]
    first, *_, last = batch.records
    assert {key: first[key] for key in ("n", "txt")} == {"n": 0, "txt": "t"}
    assert [member.name for member in first["_members"]] == ["json", "txt", "jpg"]
    assert last["json"] == [1]


def test_a_malformed_member_spoils_only_its_record(tmp_path: Path):
    batch = read_text(tmp_path, tar_bytes({**MEMBERS, "002.json": b"{", "003.txt": b"\xff"}), **TAR)
    assert [record["n"] for record in batch.records] == [0, 1, 4]
    assert details(batch) == [(2, "bad_json"), (3, "bad_json")]


def test_a_cut_archive_gives_what_is_whole_and_says_that_it_is_cut(tmp_path: Path):
    data = tar_bytes(MEMBERS).rstrip(b"\0")
    whole = read_text(tmp_path, data + bytes(-len(data) % 512 + 1024), **TAR)
    assert len(whole.records) == 5
    assert whole.rejects == []
    for cut in [*range(1, len(data), 97), *range(512, len(data), 512)]:
        batch = read_text(tmp_path, data[:cut], **TAR)
        assert len(batch.rejects) == 1, cut
        assert [record.get("n") for record in batch.records[:-1]] == list(range(len(batch.records) - 1))
        assert len(batch.records) >= cut // (512 * 8)  # a record takes up eight blocks or fewer


def test_a_damaged_header_does_not_end_the_archive_in_silence(tmp_path: Path):
    data = bytearray(tar_bytes(MEMBERS))
    place = data.index(b"003.json")
    data[place : place + 20] = b"\xff" * 20
    batch = read_text(tmp_path, bytes(data), **TAR)
    assert [record["n"] for record in batch.records] == [0, 1, 2]
    assert len(batch.rejects) == 1


@pytest.mark.parametrize("data", [b"", b"no tar", b"x" * 2000])
def test_a_file_that_is_no_archive_is_one_reject(tmp_path: Path, data: bytes):
    assert len(read_text(tmp_path, data, **TAR).rejects) == 1


# --- Pieces -------------------------------------------------------------------------------------------------------------


def test_spans_are_grouped_by_size_and_number():
    tiny = [LostSpan(str(number), "", b"", 0, 1) for number in range(CHUNK_SPANS + 1)]
    assert [len(chunk) for chunk in chunks(tiny)] == [CHUNK_SPANS, 1]
    large = [LostSpan(str(number), "", b"", 0, CHUNK_BYTES) for number in range(3)]
    assert [len(chunk) for chunk in chunks(large)] == [1, 1, 1]
    assert chunks([]) == []


def test_a_lost_span_is_one_reject(tmp_path: Path):
    batch = read(tmp_path, LostSpan("a", "why", b"raw", 7), part())
    [reject] = batch.rejects
    assert (reject.position, reject.reason, reject.detail, reject.raw) == (7, RejectReason.BAD_JSON, "why", b"raw")


def test_survey_opens_no_more_than_it_needs(tmp_path: Path):
    write_files(tmp_path, {"data": "a\tb\n" * 3})
    [span] = survey(tmp_path, "data", part(reader=COLUMNS))
    assert (span.start, span.stop, span.first_position) == (0, 12, 0)


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_nan_in_parquet_is_absent(tmp_path: Path, kind: pa.DataType):
    table = pa.table({"q": ["a", "b", "c"], "x": pa.array([1.5, float("nan"), float("inf")], kind)})
    pq.write_table(table, tmp_path / "data")
    batch = read_all(tmp_path, "data", part(reader=PARQUET))
    assert [record["x"] for record in batch.records] == [1.5, None, None]


def test_a_record_far_too_large_is_one_reject_and_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sources.json_records.MAX_RECORD_BYTES", 50)
    monkeypatch.setattr("curation.sources.readers._MOST_BYTES", 50 + 20 + 1)
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", 20)
    batch = read_text(tmp_path, '{"a": 1}\n{"a": "%s"}\n{"a": 2}\n' % ("x" * 5_000))
    assert (batch.records, batch.positions, details(batch)) == ([{"a": 1}, {"a": 2}], [0, 2], [(1, "bad_json")])


def test_spans_are_found_no_further_than_asked(tmp_path: Path):
    sample = b"x" * 100
    with tarfile.open(tmp_path / "data", "w") as tar:
        for number in range(TAR_SPAN_SAMPLES + 1):
            info = tarfile.TarInfo(f"{number:05d}.txt")
            info.size = len(sample)
            tar.addfile(info, io.BytesIO(sample))
    with (tmp_path / "data").open("r+b") as handle:  # damaged in the second span
        handle.seek(-BLOCK_BYTES * 20, io.SEEK_END)
        handle.truncate()
    webdataset = part(reader={"format": "webdataset"})
    spans = each_span(tmp_path, "data", webdataset)
    first = next(spans)
    assert isinstance(first, TarSpan) and (len(first.samples), first.first_position) == (TAR_SPAN_SAMPLES, 0)
    assert [type(span).__name__ for span in survey(tmp_path, "data", webdataset)][-1] == "LostSpan"
