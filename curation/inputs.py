"""What a source's samples are made from: every upstream file that may be read, with its size and hash.

The hashes name the artefact, so a changed picture is noticed as surely as a changed annotation. They are remembered by
(path, size, time of change): a later run looks at directory entries only.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from curation.catalog import Catalog, LocalFiles, Part, Row
from curation.errors import CatalogError, SourceError
from curation.runtime.pool import Pool
from curation.store import Store, replacing

_HASH_BLOCK_BYTES = 1 << 20
_TASK_BYTES = 32 << 20
_TASK_FILES = 2_000


@dataclass(frozen=True, slots=True)
class PartInputs:
    """The files of one part: `records` to read records from, `others` that belong to them, relative to `root`, sorted."""

    root: Path
    records: tuple[str, ...]
    others: tuple[str, ...]


def find_inputs(catalog: Catalog, source: Row) -> list[PartInputs]:
    """The files of each part. Raises CatalogError when a location does not exist or its patterns match nothing."""
    return [_find(catalog, source, part) for part in source.parts]


def _find(catalog: Catalog, source: Row, part: Part) -> PartInputs:
    root, records = find_records(catalog, source, part)
    others = {file for folder in _other_places(part) for file in _files_below(root, folder)}
    return PartInputs(root, records, tuple(sorted(others.difference(records))))


def find_records(catalog: Catalog, source: Row, part: Part) -> tuple[Path, tuple[str, ...]]:
    """The folder of a part and its record files, sorted. Raises CatalogError as `find_inputs` does."""
    root, patterns = _here(catalog, source, part)
    if not root.is_dir():
        raise CatalogError(f"source '{source.name}': its location {root} is no folder; fetch the data or mend `root`")
    records: set[str] = set()
    for pattern in patterns:
        if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            raise CatalogError(f"source '{source.name}': pattern '{pattern}' leaves the location; stay below `root`")
        matched = {path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file()}
        if links := sorted(name for name in matched if not (root / name).resolve().is_relative_to(root)):
            raise CatalogError(
                f"source '{source.name}': '{links[0]}' is a link out of {root}; put the file itself there, or mend `root`"
            )
        if not matched:
            raise CatalogError(f"source '{source.name}': no file matches '{pattern}' below {root}")
        records |= matched
    return root, tuple(sorted(records))


def _here(catalog: Catalog, row: Row, part: Part) -> tuple[Path, Sequence[str]]:
    """Where the part's files lie on this machine, and the patterns of its record files there.

    The one place that knows whether a location is here already.
    """
    if not isinstance(part.location, LocalFiles) or not part.location.is_here:
        raise CatalogError(
            f"source '{row.name}': its records lie at {part.location}, and only files of this machine can be read; "
            "copy them here and set `location: {root: ..., files: ...}`, or leave the source out of the mixture"
        )
    return catalog.root_of(part), part.location.patterns


def _other_places(part: Part) -> Iterator[str]:
    """Files and folders, relative to the root, that joins and pictures of the part may come from."""
    for join in part.join.values():
        yield _fixed_folder(join.file)
    images = part.images
    if images is None or images.archives:
        return
    if images.zip is not None or images.tar is not None:
        yield str(images.zip or images.tar)
    elif images.path is not None:
        folder = images.folder or "."
        prefix = _fixed_folder(images.path) if isinstance(images.path, str) and "{" in images.path else "."
        yield str(PurePosixPath(folder) / prefix)


def _fixed_folder(template: str) -> str:
    """The part of a path template that is the same for all records: whole, or its folders before the first field."""
    before, brace, _ = template.partition("{")
    return before if not brace else str(PurePosixPath(before + "x").parent)


def _files_below(root: Path, place: str) -> Iterator[str]:
    start = root / place
    if start.is_file():
        yield PurePosixPath(place).as_posix()
        return
    for folder, _, names in os.walk(start):
        for name in names:
            path = Path(folder, name)
            if _is_nameable(path) and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def _is_nameable(path: Path) -> bool:
    """Whether the name is UTF-8: no record can mean a file with another."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def hash_inputs(store: Store, source: Row, inputs: Sequence[PartInputs], pool: Pool) -> pl.DataFrame:
    """Columns file (`<part>/<name>`), size, sha256, one row a file in order. Raises SourceError for an unreadable file."""
    listed = pl.DataFrame(_listing(inputs), schema=["file", "path", "size", "mtime_ns"], orient="row", infer_schema_length=None)
    cache = store.root / "cache" / "hashes" / f"{source.name}.parquet"
    known = pl.read_parquet(cache) if cache.exists() else listed.clear().with_columns(sha256=pl.lit("")).clear()
    known = known.select("path", "size", "mtime_ns", "sha256").unique("path")
    merged = listed.join(known, on=["path", "size", "mtime_ns"], how="left", maintain_order="left")
    unknown = merged.filter(pl.col("sha256").is_null()).select("path", "size").unique("path", maintain_order=True)
    if len(unknown):
        tasks = list(_tasks(unknown))
        # A single task is not worth another process, nor the start of one.
        groups = pool.map(hash_files, tasks, label=f"hash {source.name}") if len(tasks) > 1 else map(hash_files, tasks)
        hashed = [item for group in groups for item in group]
        fresh = pl.DataFrame({"path": unknown["path"], "fresh": hashed})
        merged = merged.join(fresh, on="path", how="left", maintain_order="left")
        merged = merged.with_columns(sha256=pl.coalesce("sha256", "fresh")).drop("fresh")
        with replacing(cache) as temporary:
            merged.write_parquet(temporary)
    return merged.select("file", "size", "sha256")


def _listing(inputs: Sequence[PartInputs]) -> list[tuple[str, str, int, int]]:
    rows: list[tuple[str, str, int, int]] = []
    for number, part in enumerate(inputs):
        for file in sorted((*part.records, *part.others)):
            path = part.root / file
            status = path.stat()
            rows.append((f"{number}/{file}", str(path), status.st_size, status.st_mtime_ns))
    return rows


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
    return [_hash_file(path) for path in paths]


def _hash_file(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:  # noqa: PTH123
            while block := handle.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as problem:
        raise SourceError(f"upstream file {path} cannot be read: {problem.strerror}") from None
    return digest.hexdigest()


def inputs_digest(files: pl.DataFrame) -> str:
    """One hash over names, sizes and hashes, independent of where the files lie."""
    digest = hashlib.sha256()
    for row in files.iter_rows():
        digest.update("\0".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()
