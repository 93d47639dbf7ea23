"""What a stream knows of a release before it reads a sample: the manifest, checked, and three numbers a row.

Opening a release costs one stat a shard and one read of three index columns; a truncated or missing shard, or an index
of another build, is refused here and not hours later. 16 bytes a sample stay in memory (forked workers share them).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.shard_format import (
    BLOCK_BYTES,
    INDEX_COLUMNS,
    INDEX_NAME,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    SHARD_FOLDER,
    ShardEntry,
)
from training.errors import StreamError
from training.storage import LocalFiles, RemoteFiles, open_files

LATEST_NAME = "latest.json"
_PLACE_COLUMNS = ("shard", "offset_bytes", "num_bytes")

Location: TypeAlias = str | os.PathLike[str]
Int64s: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Release:
    """An opened release.

    Row i of the index is sample occurrence i in file order, at `offsets[i]` of `shards[shard[i]]`.
    """

    name: str
    fingerprint: str
    files: LocalFiles | RemoteFiles
    shards: tuple[ShardEntry, ...]
    shard: npt.NDArray[np.int32]
    offsets: Int64s
    num_bytes: npt.NDArray[np.uint32]

    @property
    def num_samples(self) -> int:
        """Sample occurrences in the release."""
        return len(self.shard)

    def shard_path(self, number: int) -> str:
        """Name of a shard relative to the release folder."""
        return f"{SHARD_FOLDER}/{self.shards[number].name}"

    def read_row(self, row: int) -> bytes:
        """The tar members of one sample. Raises StreamError when the shard has become shorter."""
        number, start, length = int(self.shard[row]), int(self.offsets[row]), int(self.num_bytes[row])
        data = self.files.read_range(self.shard_path(number), start, length)
        if len(data) != length:
            raise StreamError(
                f"{self.place(row)} ends after {len(data):,} of the sample's {length:,} bytes; "
                "the shard was cut since the release was opened: restore it or build the release again"
            )
        return data

    def place(self, row: int) -> str:
        """Where a row lies, for messages."""
        return f"shard '{self.shards[int(self.shard[row])].name}' of release '{self.name}' at byte {self.offsets[row]:,}"


def open_release(location: Location) -> Release:
    """Open and check a release folder, or a `releases/<name>` folder whose `latest.json` names the one to take.

    Raises StreamError when anything that manifest, index and shard sizes say does not agree.
    """
    files = _resolve(location)
    manifest = _read_json(files, MANIFEST_NAME)
    name = _manifest_name(manifest, files)
    shards = _read_shards(manifest, files, name)
    _check_sizes(files, shards, name)
    table = _read_index(files, name)
    release = Release(
        name=name,
        fingerprint=files.location.rstrip("/").rsplit("/", 1)[-1],
        files=files,
        shards=shards,
        shard=_column(table, "shard").astype(np.int32),
        offsets=_column(table, "offset_bytes"),
        num_bytes=_column(table, "num_bytes").astype(np.uint32),
    )
    _check_index(release, expected=manifest.get("num_samples"))
    return release


def _resolve(location: Location) -> LocalFiles | RemoteFiles:
    files = open_files(location)
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
    chosen = open_files(f"{files.location}/{fingerprint}")
    if chosen.num_bytes(MANIFEST_NAME) is None:
        raise StreamError(
            f"'{files.location}/{LATEST_NAME}' names '{fingerprint}', which holds no {MANIFEST_NAME}; build it again"
        )
    return chosen


def _read_json(files: LocalFiles | RemoteFiles, name: str) -> dict[str, Any]:
    try:
        value = json.loads(files.read(name))
    except ValueError as error:
        raise StreamError(f"'{files.location}/{name}' is not JSON ({error}); build the release again") from error
    if not isinstance(value, dict):
        raise StreamError(f"'{files.location}/{name}' holds a {type(value).__name__}; expected a JSON object")
    return value


def _manifest_name(manifest: dict[str, Any], files: LocalFiles | RemoteFiles) -> str:
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


def _read_shards(manifest: dict[str, Any], files: LocalFiles | RemoteFiles, name: str) -> tuple[ShardEntry, ...]:
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


def _check_sizes(files: LocalFiles | RemoteFiles, shards: Sequence[ShardEntry], name: str) -> None:
    for shard in shards:
        found = files.num_bytes(f"{SHARD_FOLDER}/{shard.name}")
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


def _read_index(files: LocalFiles | RemoteFiles, name: str) -> pa.Table:
    if files.num_bytes(INDEX_NAME) is None:
        raise StreamError(f"release '{name}' at '{files.location}' has no {INDEX_NAME}; build the release again")
    source: Any = str(files.path(INDEX_NAME)) if isinstance(files, LocalFiles) else pa.BufferReader(files.read(INDEX_NAME))
    try:
        with pq.ParquetFile(source, memory_map=isinstance(source, str)) as parquet:
            missing = set(_PLACE_COLUMNS) - set(parquet.schema_arrow.names)
            if missing:
                raise StreamError(
                    f"{INDEX_NAME} of release '{name}' lacks {', '.join(sorted(missing))}; "
                    f"expected the columns {', '.join(INDEX_COLUMNS)}"
                )
            return parquet.read(columns=list(_PLACE_COLUMNS))
    except (pa.ArrowInvalid, OSError) as error:
        raise StreamError(f"{INDEX_NAME} of release '{name}' cannot be read: {error}") from error


def _column(table: pa.Table, name: str) -> Int64s:
    column = table[name]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise StreamError(
            f"{INDEX_NAME}: column '{name}' is {column.type} with {column.null_count} nulls; expected whole numbers"
        )
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _check_index(release: Release, *, expected: object) -> None:
    name = release.name
    if release.num_samples != expected:
        raise StreamError(
            f"{INDEX_NAME} of release '{name}' has {release.num_samples:,} rows, its manifest says {expected!r} "
            "samples; "
            "they are of different builds: build the release again"
        )
    if release.num_samples == 0:
        raise StreamError(f"release '{name}' at '{release.files.location}' holds no sample; give a release with samples")
    if release.shard.min() < 0 or release.shard.max() >= len(release.shards):
        raise StreamError(
            f"{INDEX_NAME} of release '{name}' names shard number {release.shard.max()}; its manifest lists "
            f"{len(release.shards)}"
        )
    counts = np.bincount(release.shard, minlength=len(release.shards))
    ends = release.offsets + release.num_bytes
    last = np.zeros(len(release.shards), dtype=np.int64)
    np.maximum.at(last, release.shard, ends)
    for number, shard in enumerate(release.shards):
        if counts[number] != shard.num_samples or last[number] > shard.num_bytes:
            raise StreamError(
                f"shard '{shard.name}' of release '{name}': the index has {counts[number]:,} samples up to byte "
                f"{last[number]:,}, the manifest {shard.num_samples:,} samples in {shard.num_bytes:,} bytes; build it "
                "again"
            )
    if release.offsets.min() < 0 or (release.offsets % BLOCK_BYTES).any():
        raise StreamError(f"{INDEX_NAME} of release '{name}' has offsets that are no multiple of {BLOCK_BYTES}; build it again")
