"""Cutting files into spans, and spans into batches of records, for each file format of the catalog.

`survey` looks at a file once, without parsing it, and says how it divides into spans; `read` turns one span into records. A
record that cannot be parsed becomes a Reject with its raw bytes; nothing here raises for what is inside a file.
"""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog import Part, Reader
from curation.errors import RejectReason
from curation.locations import ReleaseRows
from curation.shard_format import BLOCK_BYTES
from curation.sources.json_spans import json_spans, line_spans, split_elements
from curation.sources.records import (
    CHUNK_BYTES,
    CHUNK_SPANS,
    MAX_RECORD_BYTES,
    Batch,
    ByteSpan,
    LostSpan,
    Member,
    Reject,
    RowGroupSpan,
    Span,
    TarSpan,
    is_text_member,
)
from curation.sources.routed_files import upstream_lines

TAR_SPAN_SAMPLES = 2_000
PARQUET_DAMAGE = (pa.ArrowException, OSError, ValueError)
"""What Arrow raises for what is in a Parquet file; a column's name that is no UTF-8 is a ValueError."""
_MOST_BYTES = MAX_RECORD_BYTES + CHUNK_BYTES + 1


def survey(root: Path, file: str, part: Part) -> list[Span]:
    """The spans of `file` (relative to `root`), in order. Unreadable files are one LostSpan."""
    return list(each_span(root, file, part))


def each_span(root: Path, file: str, part: Part) -> Iterator[Span]:
    """Like `survey`, looking no further into the file than is asked for."""
    path = root / file
    reader = part.reader
    if isinstance(part.location, ReleaseRows):
        with path.open("rb") as handle:
            yield from (replace(span, has_origins=True) for span in line_spans(handle, file, "lines"))
        return
    if path.stat().st_size == 0 and reader.records == "many" and reader.format in ("json", "delimited"):
        return
    if reader.format == "json" and reader.records == "many":
        yield from json_spans(str(path), file)
    elif reader.format == "json":
        yield ByteSpan(file, "one", 0, path.stat().st_size, 0)
    elif reader.format == "delimited" and reader.quoting:
        yield ByteSpan(file, "quoted", 0, path.stat().st_size, 0)
    elif reader.format == "delimited":
        with path.open("rb") as handle:
            yield from line_spans(handle, file, "delimited")
    elif reader.format == "parquet":
        yield from _row_groups(path, file)
    else:
        yield from _tar_samples(path, file)


def chunks(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans grouped into pieces of work of about CHUNK_BYTES, so that ten thousand tiny files are not as many tasks."""
    grouped: list[list[Span]] = []
    size = CHUNK_BYTES
    for span in spans:
        if size >= CHUNK_BYTES or len(grouped[-1]) >= CHUNK_SPANS:
            grouped.append([])
            size = 0
        grouped[-1].append(span)
        size += span.num_bytes
    return grouped


def read(root: Path, span: Span, part: Part) -> Batch:
    """The records of a span."""
    if isinstance(span, LostSpan):
        reject = Reject.of(span.file, span.first_position, span.reason, span.detail, span.raw)
        return Batch(span.file, rejects=[reject])
    if isinstance(span, RowGroupSpan):
        return _read_row_group(root, span, part)
    if isinstance(span, TarSpan):
        return _read_tar(root, span)
    with (root / span.file).open("rb") as handle:
        handle.seek(span.start)
        # A longer span ends in a record that is too large whatever follows; quoted rows have no ends to be told by.
        data = handle.read(span.num_bytes if span.style == "quoted" else min(span.num_bytes, _MOST_BYTES))
    if span.start == 0:
        data = data.removeprefix(b"\xef\xbb\xbf")
    if span.style == "delimited":
        return _read_delimited(span, data, part.reader, _columns(root / span.file, part.reader))
    if span.style == "quoted":
        return _read_quoted(span, data, part)
    batch = _read_json(span, data)
    return _with_origins(batch, root / span.file, span, data) if span.has_origins else batch


def _with_origins(batch: Batch, path: Path, span: ByteSpan, data: bytes) -> Batch:
    """The batch with positions in the upstream file that its lines were taken from."""
    lines = upstream_lines(path, span.first_position, data.count(b"\n"))
    batch.positions = [lines[position - span.first_position] for position in batch.positions]
    batch.rejects = [replace(reject, position=lines[reject.position - span.first_position]) for reject in batch.rejects]
    return batch


# --- JSON ---------------------------------------------------------------------------------------------------------------


def _read_json(span: ByteSpan, data: bytes) -> Batch:
    if span.style == "lines" and (records := _parse_lines(data)) is not None:
        return Batch(span.file, list(range(span.first_position, span.first_position + len(records))), records)
    if span.style == "lines":
        texts = data.removesuffix(b"\n").split(b"\n")
    else:
        texts = [data] if span.style == "one" else split_elements(data)
    positions: Sequence[int] = range(span.first_position, span.first_position + len(texts))
    if span.style != "one" and (b"" in texts or any(map(bytes.isspace, texts))):
        numbered = [(place, text) for place, text in zip(positions, texts, strict=True) if text and not text.isspace()]
        positions, texts = [place for place, _ in numbered], [text for _, text in numbered]
    batch = Batch(span.file)
    whole = _parse_together(texts) if span.style != "object" else None
    if whole is not None:
        batch.positions, batch.records = list(positions), whole
        return batch
    parse = _parse_entry if span.style == "object" else _parse_record
    for position, text in zip(positions, texts, strict=True):
        _add_parsed(batch, position, text, parse)
    return batch


def _parse_lines(data: bytes) -> list[Mapping[str, Any]] | None:
    """The record on each line, or None when any line is blank or needs a closer look; no list of lines is made."""
    if len(data) > MAX_RECORD_BYTES:
        return None
    try:
        return _as_records(list(map(orjson.loads, io.BytesIO(data))))
    except orjson.JSONDecodeError:
        return None


def _parse_together(texts: Sequence[bytes]) -> list[Mapping[str, Any]] | None:
    """All records, or None when any of them needs a closer look."""
    if max(map(len, texts), default=0) > MAX_RECORD_BYTES:
        return None
    try:
        return _as_records(list(map(orjson.loads, texts)))
    except orjson.JSONDecodeError:
        return None


def _as_records(values: list[Any]) -> list[Mapping[str, Any]]:
    if set(map(type, values)) <= {dict}:
        return values
    return [value if type(value) is dict else {"_value": value} for value in values]


def _add_parsed(batch: Batch, position: int, text: bytes, parse: Callable[[bytes], Mapping[str, Any]]) -> None:
    if len(text) > MAX_RECORD_BYTES:
        detail = f"{len(text)} bytes or more; the limit for a record is {MAX_RECORD_BYTES}"
        batch.rejects.append(Reject.of(batch.file, position, RejectReason.BAD_JSON, detail, text))
        return
    try:
        record = parse(text)
    except (ValueError, RecursionError) as problem:
        batch.rejects.append(Reject.of(batch.file, position, RejectReason.BAD_JSON, str(problem), text))
        return
    batch.positions.append(position)
    batch.records.append(record)


def _parse_record(text: bytes) -> Mapping[str, Any]:
    value = parse_value(text)
    return value if isinstance(value, dict) else {"_value": value}


def _parse_entry(text: bytes) -> Mapping[str, Any]:
    entry = parse_value(b"{" + text + b"}")
    if len(entry) != 1:
        raise ValueError(f"expected one key and its value, found {len(entry)}")
    key, value = next(iter(entry.items()))
    return {"_key": key, **value} if isinstance(value, dict) else {"_key": key, "_value": value}


def parse_value(text: bytes) -> Any:
    """JSON, with NaN and Infinity taken for absent values. Raises ValueError or RecursionError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        # Python's own writer emits NaN and Infinity, which are not JSON: they are absent values here.
        if b"NaN" not in text and b"Infinity" not in text:
            raise
        try:
            value = json.loads(text, parse_constant=lambda _: None)
            orjson.dumps(value)
        except (ValueError, TypeError):
            raise problem from None
        return value


# --- Delimited text -----------------------------------------------------------------------------------------------------


def _columns(path: Path, reader: Reader) -> Sequence[str]:
    """The columns that the row names, or else those of the file's first line."""
    if reader.columns is not None:
        return reader.columns
    with path.open("rb") as handle:
        line = handle.readline().removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    return line.decode("utf-8", "replace").split(reader.separator)


def _read_delimited(span: ByteSpan, data: bytes, reader: Reader, columns: Sequence[str]) -> Batch:
    batch = Batch(span.file)
    for number, raw in enumerate(data.split(b"\n"), start=span.first_position):
        line = raw.removesuffix(b"\r")
        if not line or (reader.header and number == 0):
            continue
        try:
            cells = line.decode("utf-8").split(reader.separator)
        except UnicodeDecodeError as problem:
            detail = f"not UTF-8: {problem.reason} at byte {problem.start}"
            batch.rejects.append(Reject.of(span.file, number, RejectReason.UNSUPPORTED_VALUE, detail, line))
            continue
        if reader.unescape:
            cells = [_unescape(cell) for cell in cells]
        _add_row(batch, number, cells, columns, line)
    return batch


def _read_quoted(span: ByteSpan, data: bytes, part: Part) -> Batch:
    batch = Batch(span.file)
    reader = part.reader
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        detail = f"not UTF-8: {problem.reason} at byte {problem.start}; no row of the file was read"
        batch.rejects.append(Reject.of(span.file, 0, RejectReason.UNSUPPORTED_VALUE, detail, data))
        return batch
    csv.field_size_limit(MAX_RECORD_BYTES)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=reader.separator)
    columns = reader.columns
    number = 0
    try:
        for number, cells in enumerate(rows):
            if reader.header and number == 0:
                columns = columns or cells
            elif cells:
                raw = reader.separator.join(cells).encode()
                _add_row(batch, number, [_unescape(cell) for cell in cells] if reader.unescape else cells, columns or [], raw)
    except csv.Error as problem:
        batch.rejects.append(Reject.of(span.file, number + 1, RejectReason.UNSUPPORTED_VALUE, f"row: {problem}", b""))
    return batch


def _add_row(batch: Batch, position: int, cells: list[str], columns: Sequence[str], raw: bytes) -> None:
    if len(cells) != len(columns):
        detail = f"found {len(cells)} cells, expected {len(columns)}: {', '.join(columns)}"
        batch.rejects.append(Reject.of(batch.file, position, RejectReason.UNSUPPORTED_VALUE, detail, raw))
        return
    batch.positions.append(position)
    batch.records.append(dict(zip(columns, cells, strict=True)))


def _unescape(cell: str) -> str:
    return cell.replace("\\n", "\n").replace("\\t", "\t") if "\\" in cell else cell


# --- Parquet ------------------------------------------------------------------------------------------------------------


def _row_groups(path: Path, file: str) -> list[Span]:
    try:
        metadata = pq.read_metadata(path)
    except PARQUET_DAMAGE as problem:
        return [LostSpan(file, f"not a readable Parquet file: {problem}", b"", 0, reason=RejectReason.UNREADABLE_FILE)]
    spans: list[Span] = []
    position = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        spans.append(RowGroupSpan(file, group, position, rows.total_byte_size))
        position += rows.num_rows
    return spans


def _read_row_group(root: Path, span: RowGroupSpan, part: Part) -> Batch:
    batch = Batch(span.file)
    try:
        with pq.ParquetFile(root / span.file) as parquet:
            table = parquet.read_row_group(span.group)
    except PARQUET_DAMAGE as problem:
        detail = f"row group {span.group} cannot be read: {problem}"
        batch.rejects.append(Reject.of(span.file, span.first_position, RejectReason.UNREADABLE_FILE, detail, b""))
        return batch
    table = _without_nan(table)
    column = part.images.bytes if part.images else None
    if column is not None and column in table.column_names:
        lengths = [_num_pictures(value) for value in table.column(column)]
        table = table.drop_columns([column]).append_column("_num_pictures", pa.array(lengths))
    _add_rows(batch, span.first_position, table)
    return batch


def _without_nan(table: pa.Table) -> pa.Table:
    """NaN and infinity in columns of floats, which stand for no value, as nulls."""
    for number, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = table.column(number)
            finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, field.type))
            table = table.set_column(number, field.name, finite)
    return table


def _add_rows(batch: Batch, first_position: int, table: pa.Table) -> None:
    """The rows of a table as records; where a text is not UTF-8, only its row is refused."""
    try:
        batch.records = table.to_pylist()
        batch.positions = list(range(first_position, first_position + len(batch.records)))
    except UnicodeDecodeError:
        for number in range(len(table)):
            try:
                batch.records += table.slice(number, 1).to_pylist()
                batch.positions.append(first_position + number)
            except UnicodeDecodeError as problem:
                detail = f"not UTF-8: {problem.reason} at byte {problem.start}"
                reject = Reject.of(batch.file, first_position + number, RejectReason.UNSUPPORTED_VALUE, detail, b"")
                batch.rejects.append(reject)


def _num_pictures(value: pa.Scalar) -> int:
    if not value.is_valid:
        return 0
    return len(value) if pa.types.is_list(value.type) or pa.types.is_large_list(value.type) else 1


# --- WebDataset tars ----------------------------------------------------------------------------------------------------


def _tar_samples(path: Path, file: str) -> Iterator[Span]:
    """Members grouped by key: the name up to the first dot after its folder. A cut archive ends in a LostSpan."""
    grouped: list[tuple[str, list[Member]]] = []
    first = 0
    lost: list[Span] = []
    try:
        for member in tar_members(path):
            folder, slash, name = str(PurePosixPath(member.name)).rpartition("/")
            key, _, extension = name.partition(".")  # a hidden file's key is empty
            key = folder + slash + key
            if not grouped or grouped[-1][0] != key:
                if len(grouped) == TAR_SPAN_SAMPLES:
                    yield _tar_span(file, grouped, first)
                    grouped, first = [], first + TAR_SPAN_SAMPLES
                grouped.append((key, []))
            grouped[-1][1].append(Member(extension, member.offset, member.size))
    except (tarfile.TarError, OSError, EOFError) as problem:
        number = first + len(grouped)
        detail = f"archive is damaged after {number} samples: {problem}"
        lost = [LostSpan(file, detail, b"", number, reason=RejectReason.ARCHIVE_DAMAGED)]
    if grouped:
        yield _tar_span(file, grouped, first)
    yield from lost


def _tar_span(file: str, grouped: Sequence[tuple[str, Sequence[Member]]], first: int) -> TarSpan:
    return TarSpan(file, tuple((key, tuple(members)) for key, members in grouped), first)


def tar_members(path: Path) -> Iterator[Member]:
    """Regular files of an uncompressed tar, by name and place. Links and devices are passed over.

    Raises tarfile.TarError or OSError where the archive is damaged, after the members before the damage.
    """
    size = path.stat().st_size
    with tarfile.open(path, mode="r:") as tar:
        for info in tar:
            if not info.isfile():
                continue
            name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            if info.offset_data + info.size > size:
                raise tarfile.ReadError(f"member '{name}' ends beyond the end of the file")
            yield Member(name, info.offset_data, info.size)
        _expect_end_mark(path, tar.offset)


def _expect_end_mark(path: Path, offset: int) -> None:
    """Raises ReadError unless a block of zeros is at `offset`: tarfile stops at a damaged header as if it were the end."""
    with path.open("rb") as handle:
        handle.seek(offset)
        if handle.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
            raise tarfile.ReadError(f"no header and no end mark at byte {offset}: it is damaged or cut short")


def _read_tar(root: Path, span: TarSpan) -> Batch:
    batch = Batch(span.file)
    with (root / span.file).open("rb") as handle:
        for position, (key, members) in enumerate(span.samples, start=span.first_position):
            raw = b""
            record: dict[str, Any] = {}
            try:
                for member in members:
                    if is_text_member(member.name):
                        handle.seek(member.offset)
                        raw = handle.read(min(member.size, MAX_RECORD_BYTES))
                        record.update(_text_member(member.name, raw))
            except (ValueError, RecursionError) as problem:
                batch.rejects.append(Reject.of(span.file, position, RejectReason.BAD_JSON, f"{key}: {problem}", raw))
                continue
            batch.positions.append(position)
            batch.records.append({**record, "_key": key, "_members": members})
    return batch


def _text_member(name: str, raw: bytes) -> Mapping[str, Any]:
    if name.lower().rsplit(".", 1)[-1] != "json":
        return {name: raw.decode("utf-8")}
    value = parse_value(raw)
    return value if isinstance(value, dict) else {"json": value}
