"""Records out of delimited text: lines cut at a separator, or rows with quoted cells."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from curation.catalog.spec import Part, Reader
from curation.errors import RejectReason
from curation.sources.records import MAX_RECORD_BYTES, Batch, ByteSpan, Reject


def columns_of(path: Path, reader: Reader) -> Sequence[str]:
    """The columns that the row names, or else those of the file's first line."""
    if reader.columns is not None:
        return reader.columns
    with path.open("rb") as handle:
        line = handle.readline().removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    return line.decode("utf-8", "replace").split(reader.separator)


def read_delimited(span: ByteSpan, data: bytes, reader: Reader, columns: Sequence[str]) -> Batch:
    """The rows of a span's lines; those with other cells than `columns` become rejects."""
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


def read_quoted(span: ByteSpan, data: bytes, part: Part) -> Batch:
    """The rows of a whole file in which cells may be quoted and hold separators and line ends."""
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
