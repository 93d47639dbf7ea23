"""Does a release hold what its manifest says?

Every shard is rehashed and recounted, every index row looked at, and the verdicts must tell the fate of every sample of every
source: those kept are the samples of the index, the others have one stage and reason each.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curation.runtime.pool import Pool
from curation.shard_format import (
    INDEX_COLUMNS,
    INDEX_NAME,
    SCHEMA_VERSION,
    SHARD_FOLDER,
    VERDICTS_NAME,
    TarMember,
    decode_sample,
    occurrence_key,
)
from curation.storage.store import as_stored, read_manifest
from curation.tables import counts_by

_BLOCK_BYTES = 4 << 20
_WALKED = ("source", "category", "offset_bytes", "num_bytes", "num_images")


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """One shard to check against its manifest entry and its index rows (in `index`, the file, number `number`)."""

    path: str
    index: str
    number: int
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found: `problems` is empty when the release holds."""

    num_shards: int
    num_samples: int
    num_bytes: int
    problems: list[str]


def verify(folder: Path, pool: Pool) -> Verification:
    """Recount and rehash the release at `folder`, in object storage as it lies there. Raises StoreError without manifest."""
    with as_stored(folder) as stored:
        return _verify(stored, pool)


def _verify(folder: Path, pool: Pool) -> Verification:
    manifest = read_manifest(folder)
    if manifest.get("schema_version") != SCHEMA_VERSION:
        found = manifest.get("schema_version")
        return Verification(0, 0, 0, [f"manifest: schema version {found}, this version reads {SCHEMA_VERSION}"])
    entries = manifest["shards"]
    shards = folder / SHARD_FOLDER
    problems = _stray_files(shards, {entry["name"] for entry in entries})
    index_path = folder / INDEX_NAME
    try:
        index = pl.read_parquet(index_path, columns=list(INDEX_COLUMNS))
    except (OSError, pl.exceptions.PolarsError) as problem:
        return Verification(len(entries), 0, 0, [*problems, f"{INDEX_NAME}: cannot be read: {problem}"])
    problems += _counts_differ(manifest, index)
    problems += _tables_differ(folder, manifest)
    problems += _verdicts_differ(folder, manifest, index)
    checks = [ShardCheck(str(shards / entry["name"]), str(index_path), number, entry) for number, entry in enumerate(entries)]
    for found in pool.map(check_shard, checks, label=f"verify {manifest['name']}"):
        problems += found
    return Verification(len(entries), len(index), sum(entry["num_bytes"] for entry in entries), problems)


def _stray_files(shards: Path, names: set[str]) -> list[str]:
    present = {path.name for path in shards.glob("*")} if shards.is_dir() else set()
    return [f"{SHARD_FOLDER}/{name}: not in the manifest" for name in sorted(present - names)]


def _counts_differ(manifest: Mapping[str, Any], index: pl.DataFrame) -> list[str]:
    problems: list[str] = []
    if manifest["num_samples"] != len(index):
        problems.append(f"{INDEX_NAME}: {len(index)} rows, the manifest says {manifest['num_samples']}")
    for column, key in (("source", "sources"), ("category", "categories")):
        if counts_by(index, column) != manifest[key]:
            problems.append(f"{INDEX_NAME}: counts by {column} differ from the manifest's")
    return problems


def _tables_differ(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    for name, entry in manifest["tables"].items():
        path = folder / name
        if not path.exists():
            problems.append(f"{name}: missing")
        elif (digest := _sha256(path)) != entry["sha256"]:
            problems.append(f"{name}: sha256 {digest}, the manifest says {entry['sha256']}")
    return problems


def _verdicts_differ(folder: Path, manifest: Mapping[str, Any], index: pl.DataFrame) -> list[str]:
    """Where the verdicts do not account for every sample exactly once."""
    try:
        verdicts = pl.read_parquet(folder / VERDICTS_NAME, columns=["sample_id", "source", "stage", "verdict", "reason"])
    except (OSError, pl.exceptions.PolarsError) as problem:
        return [f"{VERDICTS_NAME}: cannot be read: {problem}"]
    problems: list[str] = []
    if repeated := verdicts["sample_id"].is_duplicated().sum():
        problems.append(f"{VERDICTS_NAME}: {repeated} rows share a sample_id; one verdict a sample was expected")
    kept = verdicts.filter(pl.col("verdict") == "keep").select("sample_id")
    streamed = index.select("sample_id").unique()
    for there, here, what in ((kept, streamed, "kept but not in the index"), (streamed, kept, "in the index but not kept")):
        odd = there.join(here, on="sample_id", how="anti")
        if len(odd):
            problems.append(f"{VERDICTS_NAME}: {len(odd)} samples are {what}, such as {odd['sample_id'].sort()[0]}")
    has_no_reason = pl.col("reason").is_null() | pl.col("stage").is_null()
    if unexplained := len(verdicts.filter(has_no_reason & (pl.col("verdict") != "keep"))):
        problems.append(f"{VERDICTS_NAME}: {unexplained} dropped samples have no stage or reason")
    expected = {name: counts["samples"] for name, counts in manifest["conservation"].items()}
    found: dict[str, int] = dict(verdicts.group_by("source").len().iter_rows())
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name, 0) != found.get(name, 0):
            problems.append(
                f"{VERDICTS_NAME}: {found.get(name, 0)} samples of source '{name}', the manifest says {expected.get(name, 0)}"
            )
    return problems


def check_shard(check: ShardCheck) -> list[str]:
    """What is wrong with one shard: its size and hash, and every sample of the index at its place."""
    path = Path(check.path)
    name = f"{SHARD_FOLDER}/{path.name}"
    if not path.exists():
        return [f"{name}: missing"]
    size = path.stat().st_size
    if size != check.entry["num_bytes"]:
        return [f"{name}: {size} bytes, the manifest says {check.entry['num_bytes']}"]
    digest = _sha256(path)
    if digest != check.entry["sha256"]:
        return [f"{name}: sha256 {digest}, the manifest says {check.entry['sha256']}"]
    rows = pl.scan_parquet(check.index).filter(pl.col("shard") == check.number).collect()
    if len(rows) != check.entry["num_samples"]:
        return [f"{name}: {len(rows)} rows of the index, the manifest says {check.entry['num_samples']} samples"]
    return _samples_differ(path, name, rows)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _samples_differ(path: Path, name: str, rows: pl.DataFrame) -> list[str]:
    """Walk the tar and compare its samples, in order, with the index."""
    try:
        found = list(_walk(path))
    except (tarfile.TarError, ValueError, OSError) as problem:
        return [f"{name}: {problem}"]
    stated = [
        (occurrence_key(sample_id, repeat), *facts)
        for sample_id, repeat, *facts in rows.select("sample_id", "repeat", *_WALKED).iter_rows()
    ]
    if found == stated:
        return []
    place = int(np.argmin([left == right for left, right in zip(found, stated, strict=False)] + [False]))
    shown = [items[place] if place < len(items) else None for items in (found, stated)]
    return [f"{name}: sample {place} is {shown[0]}, the index says {shown[1]} (key, {', '.join(_WALKED)})"]


def _walk(path: Path) -> Iterator[tuple[str, str, str, int, int, int]]:
    """Key and _WALKED of each sample of a shard. Raises ValueError where a picture belongs to no sample."""
    key, source, category, offset, expected, images = "", "", "", 0, 0, 0
    with tarfile.open(path, mode="r:", tarinfo=TarMember) as tar:
        for member in tar:
            if member.name.endswith(".json"):
                if key:
                    yield key, source, category, offset, member.offset - offset, images
                handle = tar.extractfile(member)
                record = decode_sample(handle.read() if handle else b"")
                key, offset, images = member.name.removesuffix(".json"), member.offset, 0
                source, category, expected = record["source"], record["category"], len(record["images"])
                if record["id"] != key:
                    raise ValueError(f"member {member.name} holds sample {record['id']}")
            elif not member.name.startswith(f"{key}.") or images >= expected:
                raise ValueError(f"member {member.name} belongs to no sample before it")
            else:
                images += 1
        if key:
            yield key, source, category, offset, tar.offset - offset, images
