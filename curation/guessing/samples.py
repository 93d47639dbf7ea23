"""The first records of unknown files, and how they were cut out of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.parts import Part
from curation.catalog.template import Record
from curation.guessing.delimited import guess_reader
from curation.guessing.images import byte_columns
from curation.guessing.listing import Listing, kind_of
from curation.inspection.trial import first_records
from curation.sources.parquet_rows import PARQUET_DAMAGE
from curation.sources.records import is_text_member

HEAD = 32
_MAX_FILES = 64
"""Files of a group that are looked into; the others are taken to be like them."""
_MAX_ONE_BYTES = 1 << 20
_TEXT_BYTES = 1 << 16
_USUAL = 0.75
"""The share of a group's files that must be alike, for the group to be one."""
_OF_EACH = 8
"""Records that are taken from each file but the first."""


@dataclass(slots=True)
class Shape:
    """Files whose records have the same keys: their reader, and the first records with `_file`, `_dir` and `_stem`."""

    reader: dict[str, Any]
    files: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    byte_columns: list[str] = field(default_factory=list)


def shapes_of(listing: Listing, group: Sequence[str]) -> list[Shape]:
    """The shapes of records in a group of files, in the order of their first file; files without records are left out."""
    shapes: dict[str, Shape] = {}
    for file in group[:_MAX_FILES]:
        found = _shape(listing.root, file)
        if found is None:
            continue
        known = shapes.setdefault(_signature(found), Shape(found.reader, byte_columns=found.byte_columns))
        known.files.append(file)
        known.reader |= {key: True for key in ("unescape",) if key in found.reader}
        known.records += found.records if len(known.files) == 1 else found.records[:_OF_EACH]
    if not shapes:
        return []
    usual = max(shapes.values(), key=lambda shape: len(shape.files))
    if len(usual.files) >= _USUAL * min(len(group), _MAX_FILES):
        usual.files = list(group)  # the few others are taken for damaged
        return [usual]
    return list(shapes.values())


def _signature(shape: Shape) -> str:
    keys = sorted(
        {"_value" if isinstance(record.get("_value"), list) else str(key) for record in shape.records for key in record}
    )
    required = keys if shape.reader.get("format") != "webdataset" else ["_key"]
    reader = {key: value for key, value in shape.reader.items() if key != "unescape"}
    return json.dumps([reader, required])


def _shape(root: Path, file: str) -> Shape | None:
    kind = kind_of(root / file)
    if kind == "parquet":
        return _parquet_shape(root, file)
    reader = _reader(root / file, file) if kind in ("json", "delimited") else {"format": kind}
    if kind in (None, "zip") or reader is None:
        return None
    records = first_records(root, file, _any_part(file, reader), HEAD).records
    if kind == "webdataset" and not any(_has_text(record) for record in records):
        return None  # an archive of pictures
    return Shape(reader, [file], [_placed(record, file) for record in records]) if records else None


def _has_text(record: Record) -> bool:
    return any(is_text_member(member.name) for member in record.get("_members", ()))


def _any_part(file: str, reader: Mapping[str, Any]) -> Part:
    settings = {"layout": "caption", "location": {"files": file}, "fields": {"caption": "x"}, "reader": reader}
    return Part.model_validate(settings, strict=False)


def _placed(record: Record, file: str) -> Record:
    path = PurePosixPath(file)
    return {**record, "_file": file, "_dir": str(path.parent), "_stem": path.stem}


def _reader(path: Path, file: str) -> dict[str, Any] | None:
    with path.open("rb") as handle:
        head = handle.read(_TEXT_BYTES)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip()[:1] in (b"{", b"["):
        return {"format": "json", "records": "one"} if _is_one_record(path) else {"format": "json"}
    try:
        whole_lines = text if len(head) < _TEXT_BYTES else text[: text.rfind(b"\n") + 1]
        return guess_reader(whole_lines.decode("utf-8"), file)
    except UnicodeDecodeError:
        return None


def _is_one_record(path: Path) -> bool:
    """Whether a small file is a single object with values of its own, rather than many keyed by id."""
    if path.stat().st_size > _MAX_ONE_BYTES:
        return False
    try:
        value = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and not (value and all(isinstance(each, dict | list) for each in value.values()))


# --- Parquet ------------------------------------------------------------------------------------------------------------


def _parquet_shape(root: Path, file: str) -> Shape | None:
    """The first rows without columns of bytes, whose names are kept."""
    try:
        with pq.ParquetFile(root / file, pre_buffer=False, buffer_size=1 << 20) as parquet:
            schema = parquet.schema_arrow
            has_bytes = {column.name: _has_bytes(column.type) for column in schema}
            texts = [name for name, is_picture in has_bytes.items() if not is_picture]
            batches: Iterator[pa.RecordBatch] = parquet.iter_batches(batch_size=HEAD, columns=texts)
            first = next(batches, None)
            rows: list[dict[str, Any]] = first.to_pylist() if first is not None else []
    except PARQUET_DAMAGE:
        return None
    records = [_placed(row, file) for row in rows]
    return Shape({"format": "parquet"}, [file], records, byte_columns(has_bytes)) if records else None


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _has_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _has_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
