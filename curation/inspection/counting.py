"""How many records files hold, without parsing them: for a look at a source before it is ingested."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from curation.catalog.spec import Part
from curation.sources.json_spans import split_elements
from curation.sources.readers import each_span, read
from curation.sources.records import ByteSpan, RowGroupSpan, Span, TarSpan

MAX_TEXT_BYTES = 4 << 30
"""Text files of a part are read through to be counted up to this size, all together."""


def count_records(root: Path, files: Sequence[str], part: Part) -> int | None:
    """The records of a part, those that will be rejected included; None where counting would mean reading too much."""
    is_text = part.reader.format in ("json", "delimited") and part.reader.records == "many"
    if is_text and sum((root / file).stat().st_size for file in files) > MAX_TEXT_BYTES:
        return None
    return sum(_count(root, span, part) for file in files for span in each_span(root, file, part))


def _count(root: Path, span: Span, part: Part) -> int:
    if isinstance(span, RowGroupSpan):
        return int(pq.read_metadata(root / span.file).row_group(span.group).num_rows)
    if isinstance(span, TarSpan):
        return len(span.samples)
    if isinstance(span, ByteSpan) and span.style in ("lines", "array", "object", "delimited"):
        with (root / span.file).open("rb") as handle:
            handle.seek(span.start)
            data = handle.read(span.num_bytes)
        return _count_texts(span, data, part)
    if isinstance(span, ByteSpan) and span.style == "one":
        return 1
    batch = read(root, span, part)
    return len(batch.positions) + len(batch.rejects)


def _count_texts(span: ByteSpan, data: bytes, part: Part) -> int:
    data = data.removeprefix(b"\xef\xbb\xbf") if span.start == 0 else data
    if span.style in ("array", "object"):
        return len(split_elements(data))
    lines = data.split(b"\n")
    if span.style == "delimited":
        is_header = part.reader.header and span.first_position == 0
        return sum(line not in (b"", b"\r") for line in lines[is_header:])
    return sum(bool(line) and not line.isspace() for line in lines)
