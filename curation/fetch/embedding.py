"""Pictures that a dataset names instead of holding: their bytes are put into the rows, from the dataset's own files only.

A repository of loose pictures (`imagefolder`) streams rows of `{bytes: null, path: ...}`. A row could name any file, so a path
counts only when it lies in the very repository and commit, or below the very folder, that the rows come from.
"""

import os
from collections.abc import Callable
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa

from curation.imaging import MAX_FILE_BYTES


def with_bytes(table: pa.Table, dataset: str, commit: str | None, token: str | None) -> pa.Table:
    """`table` with the bytes of pictures and sounds that it only names; those of other places stay absent."""

    def read(path: str) -> bytes | None:
        if not _is_own(path, dataset, commit):
            return None
        options = {"hf": {"token": token}} if commit is not None else {}
        with fsspec.open(path, "rb", **options) as handle:
            data: bytes = handle.read(MAX_FILE_BYTES + 1)
        return data

    for number, field in enumerate(table.schema):
        if _names_files(field.type) and _lacks_bytes(table.column(number)):
            values = [_filled(value, read) for value in table.column(number).to_pylist()]
            table = table.set_column(number, field, pa.array(values, field.type))
    return table


def _names_files(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def _lacks_bytes(column: pa.ChunkedArray) -> bool:
    for chunk in column.chunks:
        flat = chunk if pa.types.is_struct(chunk.type) else chunk.flatten()
        if len(flat) and flat.field("bytes").null_count:
            return True
    return False


def _filled(value: Any, read: Callable[[str], bytes | None]) -> Any:
    if isinstance(value, list):
        return [_filled(item, read) for item in value]
    if isinstance(value, dict) and value["bytes"] is None and value["path"]:
        return {"bytes": read(value["path"]), "path": value["path"].rsplit("/", 1)[-1]}
    return value


def _is_own(path: str, dataset: str, commit: str | None) -> bool:
    if ".." in path.split("/"):
        return False
    inner, _, outer = path.rpartition("::")
    if inner and not inner.startswith("zip://"):
        return False
    if commit is not None:
        return outer.startswith(f"hf://datasets/{dataset}@{commit}/")
    root = os.path.realpath(dataset)
    return os.path.realpath(outer).startswith(root + os.sep)
