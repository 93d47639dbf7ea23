"""What a stream knows of a release before it reads a sample: the manifest, checked, and three numbers a row.

Opening a release costs one stat a shard and one pass over three index columns, some at a time; a truncated or
missing shard, or an index of another build, is refused here and not hours later. 16 bytes a sample stay in memory (forked
workers share them). Other index columns are read when something asks for them.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.shard_format import (
    BLOCK_BYTES,
    INDEX_COLUMNS,
    INDEX_NAME,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    SHARD_FOLDER,
    ShardEntry,
    occurrence_key,
)
from training.errors import StreamError
from training.foreign import find_tars, open_tars
from training.storage import DEFAULT_STORAGE, Files, Storage, open_files

LATEST_NAME = "latest.json"
_PLACE_COLUMNS = ("shard", "offset_bytes", "num_bytes")
_ROWS_AT_ONCE = 200_000

Location: TypeAlias = str | os.PathLike[str]
Int64s: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Rows of an index that a keep-list leaves, ascending; `digest` tells one keep-list from another."""

    rows: Int64s
    digest: str

    @classmethod
    def of(cls, rows: Int64s) -> "Kept":
        """The kept rows and their digest."""
        return cls(rows=rows, digest=hashlib.sha256(rows.tobytes()).hexdigest()[:16])


@dataclass(frozen=True, kw_only=True)
class Release:
    """An opened release.

    Row i of the index is sample occurrence i in file order, at `offsets[i]` of `shards[shard[i]]`. `first_rows` and
    `first_offsets` tell of every shard's first sample in the index, kept or not.
    """

    name: str
    fingerprint: str
    files: Files
    shards: tuple[ShardEntry, ...]
    shard: npt.NDArray[np.int32]
    offsets: Int64s
    num_bytes: npt.NDArray[np.uint32]
    first_rows: Int64s
    first_offsets: Int64s
    is_foreign: bool = False
    kept: Kept | None = None

    @property
    def num_samples(self) -> int:
        """Sample occurrences that the stream delivers of this release."""
        return len(self.shard)

    @property
    def identity(self) -> str:
        """What a saved position remembers of the release: name, fingerprint, and the keep-list if there is one."""
        whole = f"{self.name}@{self.fingerprint}"
        return f"{whole}[{self.kept.digest}]" if self.kept else whole

    def keep(self, rows: Int64s) -> "Release":
        """The release restricted to some of its rows, given ascending by their number in the index.

        Raises StreamError when none is left.
        """
        if not len(rows):
            raise StreamError(f"release '{self.name}': no sample is kept; the keep-list names none of its samples")
        own = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            shard=self.shard[own],
            offsets=self.offsets[own],
            num_bytes=self.num_bytes[own],
            kept=Kept.of(self.index_rows(own)),
        )

    def index_rows(self, rows: Int64s) -> Int64s:
        """Numbers in the index of some rows of this release."""
        return rows if self.kept is None else self.kept.rows[rows]

    def columns(self, *names: str) -> pa.Table:
        """Columns of the index, one row a sample that the stream delivers. Raises StreamError for one that is not there."""
        table = _read_columns(self.files, self.name, names)
        return table if self.kept is None else table.take(pa.array(self.kept.rows))

    def find(self, sample_ids: Sequence[str]) -> tuple[Int64s, set[str]]:
        """Rows of some samples, all their occurrences, ascending; and which of the samples are there."""
        ids = self.columns("sample_id")["sample_id"]
        rows = np.flatnonzero(pc.is_in(ids, pa.array(sample_ids, ids.type)).to_numpy())
        return rows, set(ids.take(pa.array(rows)).to_pylist())

    def first_keys(self, number: int) -> dict[int, str]:
        """The keys that the index gives to the first samples of shard `number` and of others in its group of rows."""
        row, first_row = int(self.first_rows[number]), 0
        with _open_index(self.files, self.name, ("sample_id", "repeat")) as parquet:
            for group in range(parquet.num_row_groups):
                stop = first_row + parquet.metadata.row_group(group).num_rows
                if row < stop:
                    break
                first_row = stop
            table = parquet.read_row_group(group, columns=["sample_id", "repeat"])
        shards = np.flatnonzero((self.first_rows >= first_row) & (self.first_rows < stop)).tolist()
        found = table.take(pa.array(self.first_rows[shards] - first_row)).to_pydict()
        keys = (occurrence_key(*pair) for pair in zip(found["sample_id"], found["repeat"], strict=True))
        return dict(zip(shards, keys, strict=True))

    def shard_path(self, number: int) -> str:
        """Name of a shard relative to the release folder."""
        return f"{SHARD_FOLDER}/{self.shards[number].name}"

    def place(self, shard: int, start: int) -> str:
        """Where a sample lies, for messages."""
        return f"shard '{self.shards[shard].name}' of release '{self.name}' at byte {start:,}"


def open_release(location: Location, *, storage: Storage = DEFAULT_STORAGE) -> Release:
    """Open and check a release folder, or a `releases/<name>` folder whose `latest.json` names the one to take, or tars.

    Raises StreamError when anything that manifest, index and shard sizes say does not agree.
    """
    tars = find_tars(os.fspath(location))
    files: Files = open_tars(tars, storage) if tars else _resolve(location, storage)
    manifest = _read_json(files, MANIFEST_NAME)
    name = _manifest_name(manifest, files)
    shards = _read_shards(manifest, files, name)
    files.expect({f"{SHARD_FOLDER}/{shard.name}": shard for shard in shards})
    _check_sizes(files, shards, name)
    expected = manifest.get("num_samples")
    shard, offsets, num_bytes = _read_places(files, name, expected)
    first_rows = _first_rows(shards, len(shard), name)
    release = Release(
        name=name,
        fingerprint=files.location.rstrip("/").rsplit("/", 1)[-1],
        files=files,
        shards=shards,
        shard=shard,
        offsets=offsets,
        num_bytes=num_bytes,
        first_rows=first_rows,
        first_offsets=offsets[first_rows],
        is_foreign=bool(tars),
    )
    _check_index(release)
    return release


def _resolve(location: Location, storage: Storage) -> Files:
    files = open_files(location, storage)
    if files.num_bytes(MANIFEST_NAME) is not None:
        return files
    if files.num_bytes(LATEST_NAME) is None:
        raise StreamError(
            f"no release at '{files.location}': expected {MANIFEST_NAME} (a release folder) or {LATEST_NAME} "
            "(a folder of releases); give the path that `curate build` printed"
        )
    fingerprint = _read_json(files, LATEST_NAME).get("fingerprint")
    if not isinstance(fingerprint, str) or not fingerprint or Path(fingerprint).name != fingerprint:
        raise StreamError(f"'{files.location}/{LATEST_NAME}' names {fingerprint!r}; expected the name of a folder beside it")
    chosen = open_files(f"{files.location}/{fingerprint}", storage)
    if chosen.num_bytes(MANIFEST_NAME) is None:
        raise StreamError(
            f"'{files.location}/{LATEST_NAME}' names '{fingerprint}', which holds no {MANIFEST_NAME}; build it again"
        )
    return chosen


def _read_json(files: Files, name: str) -> dict[str, Any]:
    try:
        value = json.loads(files.read(name))
    except ValueError as error:
        raise StreamError(f"'{files.location}/{name}' is not JSON ({error}); build the release again") from error
    if not isinstance(value, dict):
        raise StreamError(f"'{files.location}/{name}' holds a {type(value).__name__}; expected a JSON object")
    return value


def _manifest_name(manifest: dict[str, Any], files: Files) -> str:
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StreamError(
            f"release '{files.location}' has schema version {version!r}; this reader knows {SCHEMA_VERSION}: "
            "build the release again or use the matching version of this package"
        )
    mixture = manifest.get("mixture")
    name = mixture.get("name") if isinstance(mixture, dict) else None
    if not isinstance(name, str):
        raise StreamError(f"the manifest of '{files.location}' lacks mixture.name; build the release again")
    return name


def _read_shards(manifest: dict[str, Any], files: Files, name: str) -> tuple[ShardEntry, ...]:
    fields = ShardEntry.__dataclass_fields__
    try:
        shards = tuple(ShardEntry(**{field: row[field] for field in fields}) for row in manifest["shards"])
    except (KeyError, TypeError) as error:
        raise StreamError(
            f"the manifest of release '{name}' at '{files.location}' has no usable shard list ({error}); "
            f"expected rows of {', '.join(fields)}"
        ) from error
    for shard in shards:
        if not shard.name or "/" in shard.name or "\\" in shard.name or shard.name in {".", ".."}:
            raise StreamError(f"release '{name}' lists the shard '{shard.name}'; expected a plain file name")
    return shards


def _check_sizes(files: Files, shards: Sequence[ShardEntry], name: str) -> None:
    """Hold the shards' sizes against the manifest, where the storage can list a folder."""
    sizes = files.folder_sizes(SHARD_FOLDER)
    if sizes is None:
        return
    for shard in shards:
        found = sizes.get(shard.name)
        if found is None:
            raise StreamError(
                f"shard '{shard.name}' of release '{name}' is missing below '{files.location}/{SHARD_FOLDER}'; "
                "copy it there or build the release again"
            )
        if found != shard.num_bytes:
            raise StreamError(
                f"shard '{shard.name}' of release '{name}' holds {found:,} bytes, its manifest says "
                f"{shard.num_bytes:,}; it is truncated or of another build: copy it again"
            )


@contextmanager
def _open_index(files: Files, name: str, columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
    if files.num_bytes(INDEX_NAME) is None:
        raise StreamError(f"release '{name}' at '{files.location}' has no {INDEX_NAME}; build the release again")
    try:
        with pq.ParquetFile(str(files.local_path(INDEX_NAME))) as parquet:
            missing = set(columns) - set(parquet.schema_arrow.names)
            if missing:
                raise StreamError(
                    f"{INDEX_NAME} of release '{name}' lacks {', '.join(sorted(missing))}; "
                    f"expected the columns {', '.join(INDEX_COLUMNS)}"
                )
            yield parquet
    except (pa.ArrowInvalid, OSError) as error:
        raise StreamError(f"{INDEX_NAME} of release '{name}' cannot be read: {error}") from error


def _read_columns(files: Files, name: str, columns: Sequence[str]) -> pa.Table:
    with _open_index(files, name, columns) as parquet:
        return parquet.read(columns=list(columns))


def _read_places(files: Files, name: str, expected: object) -> tuple[npt.NDArray[np.int32], Int64s, npt.NDArray[np.uint32]]:
    """Shard, offset and length of every row, read straight into arrays of their final size."""
    with _open_index(files, name, _PLACE_COLUMNS) as parquet:
        num_rows = parquet.metadata.num_rows
        if num_rows != expected:
            raise StreamError(
                f"{INDEX_NAME} of release '{name}' has {num_rows:,} rows, its manifest says {expected!r} samples; "
                "they are of different builds: build the release again"
            )
        if num_rows == 0:
            raise StreamError(f"release '{name}' at '{files.location}' holds no sample; give a release with samples")
        shard, offsets = np.empty(num_rows, np.int32), np.empty(num_rows, np.int64)
        num_bytes = np.empty(num_rows, np.uint32)
        first = 0
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=list(_PLACE_COLUMNS)):
            for column, target in zip(_PLACE_COLUMNS, (shard, offsets, num_bytes), strict=True):
                _copy_numbers(batch.column(column), target[first : first + len(batch)], column)
            first += len(batch)
    return shard, offsets, num_bytes


def _copy_numbers(column: pa.Array, target: npt.NDArray[Any], name: str) -> None:
    if not pa.types.is_integer(column.type) or column.null_count:
        raise StreamError(
            f"{INDEX_NAME}: column '{name}' is {column.type} with {column.null_count} nulls; expected whole numbers"
        )
    values = column.to_numpy(zero_copy_only=False)
    limits = np.iinfo(target.dtype)
    if len(values) and (values.min() < max(0, limits.min) or values.max() > limits.max):
        raise StreamError(
            f"{INDEX_NAME}: column '{name}' runs from {values.min():,} to {values.max():,}; expected 0 to {limits.max:,}: "
            "build the release again"
        )
    target[:] = values


def _first_rows(shards: Sequence[ShardEntry], num_rows: int, name: str) -> Int64s:
    """The row at which every shard begins, as the manifest has it."""
    ends = np.cumsum([shard.num_samples for shard in shards], dtype=np.int64)
    if not len(ends) or int(ends[-1]) != num_rows or min(shard.num_samples for shard in shards) < 1:
        raise StreamError(
            f"the shards of release '{name}' hold {ends[-1] if len(ends) else 0:,} samples by its manifest, {INDEX_NAME} has "
            f"{num_rows:,} rows; build the release again"
        )
    return np.concatenate([[0], ends[:-1]])


def _check_index(release: Release) -> None:
    """Hold the index against the manifest, a shard at a time: no temporary is larger than a shard's rows."""
    name = release.name
    for number, (shard, first) in enumerate(zip(release.shards, release.first_rows.tolist(), strict=True)):
        rows = slice(first, first + shard.num_samples)
        if (release.shard[rows] != number).any():
            raise StreamError(
                f"{INDEX_NAME} of release '{name}' does not go through the manifest's {len(release.shards)} shards in order: "
                f"rows {first:,} to {rows.stop - 1:,} should be of shard '{shard.name}'; build the release again"
            )
        offsets = release.offsets[rows]
        end = int((offsets + release.num_bytes[rows]).max())
        if end > shard.num_bytes:
            raise StreamError(
                f"shard '{shard.name}' of release '{name}': the index has samples up to byte {end:,}, the manifest "
                f"{shard.num_bytes:,} bytes; build it again"
            )
        if (offsets % BLOCK_BYTES).any():
            raise StreamError(
                f"{INDEX_NAME} of release '{name}' has offsets in shard '{shard.name}' that are no multiple of "
                f"{BLOCK_BYTES}; build it again"
            )
