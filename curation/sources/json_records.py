"""Records out of JSON text: lines, elements of an array, entries of an object, or a whole file."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from curation.errors import RejectReason
from curation.sources.json_spans import split_elements
from curation.sources.records import MAX_RECORD_BYTES, Batch, ByteSpan, Reject


def read_json(span: ByteSpan, data: bytes) -> Batch:
    """The records of a span's bytes; what is no JSON becomes a reject."""
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


def with_parsed(batch: Batch, fields: Sequence[str]) -> Batch:
    """`batch` with the JSON that stands as text in `fields` parsed; a record in which it is none becomes a reject."""
    found = Batch(batch.file, rejects=list(batch.rejects))
    for position, record in zip(batch.positions, batch.records, strict=True):
        try:
            parsed = {name: parse_value(value.encode()) for name in fields if isinstance(value := record.get(name), str)}
        except (ValueError, RecursionError) as problem:
            raw = orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS)
            detail = f"of {' and '.join(fields)}: {problem}"
            found.rejects.append(Reject.of(batch.file, position, RejectReason.BAD_JSON, detail, raw))
            continue
        found.positions.append(position)
        found.records.append({**record, **parsed})
    return found


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
