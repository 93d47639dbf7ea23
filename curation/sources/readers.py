"""Cutting files into spans, and spans into batches of records, for each file format of the catalog.

`survey` looks at a file once, without parsing it, and says how it divides into spans; `read` turns one span into records. A
record that cannot be parsed becomes a Reject with its raw bytes; nothing here raises for what is inside a file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from curation.catalog.locations import ReleaseRows
from curation.catalog.spec import Part
from curation.sources.delimited import columns_of, read_delimited, read_quoted
from curation.sources.json_records import read_json, with_parsed
from curation.sources.json_spans import json_spans, line_spans
from curation.sources.parquet_rows import read_row_group, row_groups
from curation.sources.records import (
    CHUNK_BYTES,
    CHUNK_SPANS,
    MAX_RECORD_BYTES,
    Batch,
    ByteSpan,
    LostSpan,
    Reject,
    RowGroupSpan,
    Span,
    TarSpan,
)
from curation.sources.routed_files import upstream_lines
from curation.sources.tar_samples import read_tar, tar_samples

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
        yield from row_groups(path, file)
    else:
        yield from tar_samples(path, file)


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
    batch = _read(root, span, part)
    return with_parsed(batch, part.reader.json_fields) if part.reader.json_fields else batch


def _read(root: Path, span: Span, part: Part) -> Batch:
    if isinstance(span, LostSpan):
        reject = Reject.of(span.file, span.first_position, span.reason, span.detail, span.raw)
        return Batch(span.file, rejects=[reject])
    if isinstance(span, RowGroupSpan):
        return read_row_group(root, span, part)
    if isinstance(span, TarSpan):
        return read_tar(root, span)
    with (root / span.file).open("rb") as handle:
        handle.seek(span.start)
        # A longer span ends in a record that is too large whatever follows; quoted rows have no ends to be told by.
        data = handle.read(span.num_bytes if span.style == "quoted" else min(span.num_bytes, _MOST_BYTES))
    if span.start == 0:
        data = data.removeprefix(b"\xef\xbb\xbf")
    if span.style == "delimited":
        return read_delimited(span, data, part.reader, columns_of(root / span.file, part.reader))
    if span.style == "quoted":
        return read_quoted(span, data, part)
    batch = read_json(span, data)
    return _with_origins(batch, root / span.file, span, data) if span.has_origins else batch


def _with_origins(batch: Batch, path: Path, span: ByteSpan, data: bytes) -> Batch:
    """The batch with positions in the upstream file that its lines were taken from."""
    lines = upstream_lines(path, span.first_position, data.count(b"\n"))
    batch.positions = [lines[position - span.first_position] for position in batch.positions]
    batch.rejects = [replace(reject, position=lines[reject.position - span.first_position]) for reject in batch.rejects]
    return batch
