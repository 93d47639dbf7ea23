"""Records out of Parquet files: rows, read by row group, without the bytes of their pictures."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.spec import Part
from curation.errors import RejectReason
from curation.sources.records import Batch, LostSpan, Reject, RowGroupSpan, Span

PARQUET_DAMAGE = (pa.ArrowException, OSError, ValueError)
"""What Arrow raises for what is in a Parquet file; a column's name that is no UTF-8 is a ValueError."""

MAX_GROUP_ROWS = 1 << 22
"""Rows of a row group, which is read whole; writers make 100,000 to a million by default."""
MAX_GROUP_BYTES = 8 << 30
"""Bytes of a row group once decompressed."""


def row_groups(path: Path, file: str) -> list[Span]:
    """A span for each row group of the file at `path`; one that states more than a worker can hold is lost: a few bytes of
    Parquet may stand for billions of rows."""
    try:
        metadata = pq.read_metadata(path)
    except PARQUET_DAMAGE as problem:
        return [LostSpan(file, f"not a readable Parquet file: {problem}", b"", 0, reason=RejectReason.UNREADABLE_FILE)]
    spans: list[Span] = []
    position = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if wrong := _implausible(group):
            detail = f"row group {number} cannot be read: {wrong}"
            spans.append(LostSpan(file, detail, b"", position, reason=RejectReason.UNREADABLE_FILE))
            position += 1
        else:
            spans.append(RowGroupSpan(file, number, position, group.total_byte_size))
            position += group.num_rows
    return spans


def _implausible(group: pq.RowGroupMetaData) -> str | None:
    """What is wrong with the sizes that a row group states, without reading it."""
    # Not by its columns' facts: Arrow ends the process at damage in some of these.
    rows, size = group.num_rows, group.total_byte_size
    if rows < 0 or size < 0:
        return f"it states {rows:,} rows and {size:,} bytes"
    if rows > MAX_GROUP_ROWS or size > MAX_GROUP_BYTES:
        return (
            f"it states {rows:,} rows and {size:,} bytes; at most {MAX_GROUP_ROWS:,} and {MAX_GROUP_BYTES:,} are read at once: "
            "write the file with smaller row groups"
        )
    return None


def read_row_group(root: Path, span: RowGroupSpan, part: Part) -> Batch:
    """The rows of a row group; of a column of pictures only how many there are."""
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
