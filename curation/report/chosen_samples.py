"""The samples a page shows: an even, seeded pick over the sources by stream position, read from the shards by byte range."""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.errors import ShardError
from curation.report.excerpt import Excerpt, excerpt
from curation.report.thumbnails import MAX_SOURCE_BYTES, NO_PREVIEW, Thumbnail, thumbnail
from curation.shard_format import INDEX_NAME, SHARD_FOLDER, TarMember, decode_sample, occurrence_key
from curation.tables import keyed_bits

NUM_SHOWN = 60
MAX_TURNS = 6
_MAX_THUMBNAILS = 4
_ALL_THUMBNAILS = 240


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as shown; `role` is `human` or `gpt`."""

    role: str
    text: Excerpt


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownSample:
    """A sample of the release as the page shows it; `thumbnails` are of its first images."""

    key: str
    source: str
    category: str
    license: str
    position: int
    shard: str
    turns: Sequence[Turn]
    num_more_turns: int
    thumbnails: Sequence[Thumbnail]
    num_images: int


def choose_positions(sources: pl.Series, seed: int, limit: int = NUM_SHOWN) -> list[int]:
    """Stream positions to show, in order: at least one a source, else as even over the sources as they allow.

    `sources` names the source of each position. Within a source the picks are evenly spaced from a seeded start.
    """
    names = sources.unique().sort().to_list()
    numbers = sources.cast(pl.Enum(names)).to_physical().to_numpy()
    places = {name: np.flatnonzero(numbers == number) for number, name in enumerate(names)}
    quotas = _even_quotas({name: len(having) for name, having in places.items()}, limit)
    chosen: list[int] = []
    for name, having in places.items():
        chosen += having[_spaced(len(having), quotas[name], seed, name)].tolist()
    return sorted(chosen)


def _even_quotas(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Round after round one more for each source that has more to give, until `limit`; everyone gets one."""
    quotas = dict.fromkeys(sorted(counts), 1)
    left = min(limit, sum(counts.values())) - len(quotas)
    while left > 0:
        for name in [name for name in quotas if quotas[name] < counts[name]][:left]:
            quotas[name] += 1
            left -= 1
    return quotas


def _spaced(num_places: int, num_picks: int, seed: int, source: str) -> npt.NDArray[np.int64]:
    bits = keyed_bits(np.zeros(1, np.uint64), "report", seed, source)
    start = int(bits[0]) % max(1, num_places // num_picks)
    return start + np.arange(num_picks, dtype=np.int64) * num_places // num_picks


def read_chosen(folder: Path, shard_names: Sequence[str], seed: int) -> list[ShownSample]:
    """The chosen samples of the release at `folder`, in stream order. Raises ShardError when index and shards disagree."""
    scan = pl.scan_parquet(folder / INDEX_NAME)
    positions = choose_positions(scan.select("source").collect()["source"], seed)
    wanted = pl.Series(positions, dtype=pl.UInt32).implode()
    rows = scan.with_row_index("position").filter(pl.col("position").is_in(wanted)).sort("position").collect().to_dicts()
    per_sample = max(1, min(_MAX_THUMBNAILS, _ALL_THUMBNAILS // max(1, len(rows))))
    return [
        shown for _, group in groupby(rows, lambda row: row["shard"]) for shown in _read(folder, shard_names, group, per_sample)
    ]


def _read(
    folder: Path, shard_names: Sequence[str], rows: Iterator[Mapping[str, Any]], per_sample: int
) -> Iterator[ShownSample]:
    """Samples of `rows`, all of one shard."""
    handle: BinaryIO | None = None
    try:
        for row in rows:
            name = shard_names[row["shard"]]
            path = folder / SHARD_FOLDER / name
            handle = handle or path.open("rb")
            try:
                yield _shown(row, name, _members(handle, row["offset_bytes"], row["num_bytes"]), per_sample)
            except (tarfile.TarError, ValueError, KeyError) as problem:
                key = occurrence_key(row["sample_id"], row["repeat"])
                raise ShardError(
                    f"{path}: no sample '{key}' at byte {row['offset_bytes']} where the index has it ({problem}); "
                    "delete the release's folder and build it again"
                ) from None
    finally:
        if handle:
            handle.close()


def _members(handle: BinaryIO, offset_bytes: int, num_bytes: int) -> Iterator[tuple[str, int, BinaryIO]]:
    """Name, size and content of the members that lie in a byte range of a tar; nothing outside it is read."""
    handle.seek(offset_bytes)
    with tarfile.open(fileobj=handle, mode="r:", tarinfo=TarMember) as tar:
        while (member := tar.next()) and member.offset < offset_bytes + num_bytes:
            content = tar.extractfile(member)
            if content is None:
                raise ValueError(f"member '{member.name}' is no file")
            yield member.name, member.size, content  # type: ignore[misc]  # typeshed types it as IO[bytes]


def _shown(row: Mapping[str, Any], shard: str, members: Iterator[tuple[str, int, BinaryIO]], per_sample: int) -> ShownSample:
    key = occurrence_key(row["sample_id"], row["repeat"])
    name, _, content = next(members, ("nothing", 0, None))
    if name != f"{key}.json" or content is None:
        raise ValueError(f"found '{name}'")
    record = decode_sample(content.read())
    thumbnails: list[Thumbnail] = []
    while len(thumbnails) < per_sample and (member := next(members, None)):
        _, size, content = member
        thumbnails.append(thumbnail(content.read()) if size <= MAX_SOURCE_BYTES else NO_PREVIEW)
    turns = [Turn(turn["from"], excerpt(turn["value"])) for turn in record["conversations"]]
    return ShownSample(
        key=key,
        source=row["source"],
        category=row["category"],
        license=record["license"],
        position=row["position"],
        shard=shard,
        turns=turns[:MAX_TURNS],
        num_more_turns=max(0, len(turns) - MAX_TURNS),
        thumbnails=thumbnails,
        num_images=row["num_images"],
    )
