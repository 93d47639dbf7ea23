"""SHA-256 of files, each computed once: remembered by (path, size, time of change)."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from curation.errors import SourceError
from curation.runtime.pool import Pool
from curation.storage.store import replacing

_HASH_BLOCK_BYTES = 1 << 20
_TASK_BYTES = 32 << 20
_TASK_FILES = 2_000


def remembered_hashes(files: Sequence[tuple[str, Path]], cache: Path, pool: Pool, label: str) -> pl.DataFrame:
    """Columns file, size, sha256 for each (name, path), in order; what was hashed before is in `cache`.

    Raises SourceError for a file that cannot be read.
    """
    rows = [(name, str(path), status.st_size, status.st_mtime_ns) for name, path in files if (status := path.stat())]
    listed = pl.DataFrame(rows, schema=["file", "path", "size", "mtime_ns"], orient="row", infer_schema_length=None)
    known = pl.read_parquet(cache) if cache.exists() else listed.clear().with_columns(sha256=pl.lit("")).clear()
    known = known.select("path", "size", "mtime_ns", "sha256").unique("path")
    merged = listed.join(known, on=["path", "size", "mtime_ns"], how="left", maintain_order="left")
    unknown = merged.filter(pl.col("sha256").is_null()).select("path", "size").unique("path", maintain_order=True)
    if len(unknown):
        tasks = list(_tasks(unknown))
        # A single task is not worth another process, nor the start of one.
        groups = pool.map(hash_files, tasks, label=label) if len(tasks) > 1 else map(hash_files, tasks)
        hashed = [item for group in groups for item in group]
        fresh = pl.DataFrame({"path": unknown["path"], "fresh": hashed})
        merged = merged.join(fresh, on="path", how="left", maintain_order="left")
        merged = merged.with_columns(sha256=pl.coalesce("sha256", "fresh")).drop("fresh")
        with replacing(cache) as temporary:
            merged.write_parquet(temporary)
    return merged.select("file", "size", "sha256")


def _tasks(files: pl.DataFrame) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for path, num_bytes in files.iter_rows():
        group.append(path)
        size += num_bytes
        if size >= _TASK_BYTES or len(group) >= _TASK_FILES:
            yield group
            group, size = [], 0
    if group:
        yield group


def hash_files(paths: Sequence[str]) -> list[str]:
    """SHA-256 (hex) of each file. Raises SourceError for one that cannot be read."""
    return [hash_file(path) for path in paths]


def hash_file(path: str) -> str:
    """SHA-256 (hex) of a file. Raises SourceError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:  # noqa: PTH123
            while block := handle.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as problem:
        raise SourceError(f"upstream file {path} cannot be read: {problem.strerror}") from None
    return digest.hexdigest()
