"""The life of one record: what was read, what was decided about it and why, and where it stands in a release.

Ids that can be looked up: a sample_id (with or without `-r<k>`), a rejected record's `<source>:<file>:<position>`, or
`<source>:<upstream id>`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import CurationError
from curation.fetch.local import newest
from curation.shard_format import INDEX_NAME
from curation.sources.routing import rejected_rows
from curation.storage.mirror import is_url
from curation.storage.store import Store, address, is_published, latest, read_manifest

_SAMPLE_ID = re.compile(r"(?P<sample>(?P<source>[a-z0-9_-]+)-[0-9a-f]{24}(?:-d\d+)?)(?:-r\d+)?")
_MAX_MATCHES = 20


class NotFoundError(CurationError):
    """An id that no source under the root knows."""


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of one id; `sample` or `rejected` is set, never both. `fetched`: where its source's files came from."""

    sample: Mapping[str, Any] | None
    rejected: Mapping[str, Any] | None
    verdicts: list[dict[str, Any]]
    places: list[dict[str, Any]]
    twin: Mapping[str, Any] | None
    fetched: Sequence[Mapping[str, Any]] = ()


def look_up(store: Store, identifier: str, release: Path | None = None) -> list[Life]:
    """Everything that `identifier` may mean: one life, or several where an upstream id is not unique.

    Verdicts and places come from `release`, or from the latest release of every mixture. Raises NotFoundError.
    """
    match = _SAMPLE_ID.fullmatch(identifier)
    if match and (found := _samples(store, match["source"], pl.col("sample_id") == match["sample"])):
        return [_life_of_sample(store, row, release) for row in found]
    source, colon, rest = identifier.partition(":")
    if colon:
        rejected = _rows(store, source, "rejected", pl.col("record_id") == identifier)
        if rejected:
            return [Life(None, row, [], [], None, _fetched(store, source)) for row in rejected]
        if found := _samples(store, source, _origin_is(rest)):
            return [_life_of_sample(store, row, release) for row in found]
        routed = newest(store.root / "upstream" / source / "routed")
        if routed is not None and (unread := rejected_rows(routed, pl.col("record_id") == identifier)):
            return [Life(None, row, [], [], None) for row in unread]  # a line of a release that belongs to no source
    known = ", ".join(store.names("sources")) or "none"
    raise NotFoundError(
        f"'{identifier}' is neither a sample_id nor a record '<source>:<file>:<position>' under {address(store.root)}; "
        f"ingested sources: {known}"
    )


def _origin_is(rest: str) -> pl.Expr:
    file, _, position = rest.rpartition(":")
    is_id = pl.col("origin_id") == rest
    if not (file and position.isdecimal()):
        return is_id
    return is_id | ((pl.col("origin_file") == file) & (pl.col("origin_position") == int(position)))


def _samples(store: Store, source: str, condition: pl.Expr) -> list[dict[str, Any]]:
    return _rows(store, source, "samples", condition)


def _items(store: Store, benchmark: str, condition: pl.Expr) -> list[dict[str, Any]]:
    """Items of an evaluation set: the twins of samples that leaked."""
    return _rows(store, benchmark, "samples", condition, place="benchmarks")


def _rows(store: Store, source: str, kind: str, condition: pl.Expr, *, place: str = "sources") -> list[dict[str, Any]]:
    folder = latest(store.root / place / source)
    files = sorted(folder.glob(f"{kind}-*.parquet")) if folder else []
    if not files:
        return []
    return pl.scan_parquet(files).filter(condition).head(_MAX_MATCHES).collect().to_dicts()


def _life_of_sample(store: Store, sample: Mapping[str, Any], release: Path | None) -> Life:
    verdicts: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    is_this = pl.col("sample_id") == sample["sample_id"]
    for folder in [release] if release else _latest_releases(store):
        name = f"{folder.parent.name}/{folder.name}"
        found = pl.scan_parquet(folder / "verdicts.parquet").filter(is_this).collect().to_dicts()
        verdicts += [{"release": name, **row} for row in found]
        shards = read_manifest(folder)["shards"]
        for row in pl.scan_parquet(folder / INDEX_NAME).filter(is_this).collect().to_dicts():
            places.append({"release": name, **row, "shard": shards[row["shard"]]["name"]})
    if not verdicts and release is None:
        verdicts = _pool_verdicts(store, is_this)
    twin_id = next((row["twin_id"] for row in verdicts if row["twin_id"]), None)
    return Life(sample, None, verdicts, places, _twin(store, twin_id), _fetched(store, sample["source"]))


def _fetched(store: Store, source: str) -> list[dict[str, Any]]:
    """Where the files of a source were fetched from, each place once; nothing for files of this machine."""
    folder = latest(store.root / "sources" / source)
    inputs = read_manifest(folder)["inputs"] if folder else {}
    found: list[dict[str, Any]] = []
    for place in inputs.get("places", ()):
        told = {**place, "is_original": inputs.get("is_original", False)}
        if place and told not in found:
            found.append(told)
    return found


def _twin(store: Store, twin_id: str | None) -> Mapping[str, Any] | None:
    match = _SAMPLE_ID.fullmatch(twin_id) if twin_id else None
    if match is None:
        return None
    is_twin = pl.col("sample_id") == twin_id
    found = _samples(store, match["source"], is_twin) or _items(store, match["source"], is_twin)
    return found[0] if found else None


def _latest_releases(store: Store) -> Iterator[Path]:
    for name in store.names("releases"):
        folder = latest(store.root / "releases" / name)
        if folder is not None:
            yield folder


def _pool_verdicts(store: Store, condition: pl.Expr) -> list[dict[str, Any]]:
    pools = [folder for name in store.names("pools") if is_published(folder := store.pool(name))]
    for folder in sorted(pools, key=lambda folder: str(read_manifest(folder)["created"]), reverse=True):
        files = sorted(folder.glob("verdicts-*.parquet"))
        found = pl.scan_parquet(files).filter(condition).collect().to_dicts() if files else []
        if found:
            return [{"pool": folder.name, **row} for row in found]
    return []


def find_release(store: Store, text: str) -> Path:
    """The release that `text` means: a folder, `<mixture>`, or `<mixture>/<fingerprint>`.

    Raises NotFoundError naming what there is.
    """
    releases = store.root / "releases"
    below = text.removeprefix(address(releases)).strip("/") if is_url(text) else text
    for folder in (releases / below, *([] if is_url(text) else [Path(text)])):
        if is_published(folder):
            return folder.absolute()
        newest = latest(folder)
        if newest is not None:
            return newest.absolute()
    known = ", ".join(store.names("releases")) or "none"
    raise NotFoundError(f"no published release '{text}' here or under {address(releases)}; mixtures with releases: {known}")
