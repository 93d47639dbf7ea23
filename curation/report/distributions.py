"""How long and how large a release's samples are: histograms over its index, read as a stream of narrow columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curation.report.wording import count, size
from curation.shard_format import INDEX_NAME

_TOKEN_EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192)
_BYTE_EDGES = (0, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
_IMAGE_EDGES = (0, 1, 2, 3, 4, 5, 9, 17)


@dataclass(frozen=True, slots=True)
class Bar:
    """Samples whose figure lies in the range that `label` says, and their share of the fullest bar."""

    label: str
    num: int
    part: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """One figure over all sample occurrences; the middle, the 95th percentile and the largest, in words."""

    title: str
    bars: Sequence[Bar]
    middle: str
    most: str
    largest: str


def histograms(folder: Path) -> list[Histogram]:
    """Tokens, images and bytes of the samples of the release at `folder`; none for an empty one."""
    index = pl.scan_parquet(folder / INDEX_NAME)
    figures = (
        ("Tokens a sample", "num_tokens", _TOKEN_EDGES, count),
        ("Images a sample", "num_images", _IMAGE_EDGES, count),
        ("Bytes a sample", "num_bytes", _BYTE_EDGES, size),
    )
    made: list[Histogram] = []
    for title, column, edges, worded in figures:
        value = pl.col(column)
        place = sum((value >= edge).cast(pl.Int32) for edge in edges[1:])
        counted = index.group_by(place.alias("place")).len().collect(engine="streaming")  # type: ignore[union-attr]
        numbers = dict(counted.iter_rows())
        if not numbers:
            return []
        middle, most, largest = (
            index.select(
                value.quantile(0.5, "lower").alias("middle"),
                value.quantile(0.95, "lower").alias("most"),
                value.max().alias("all"),
            )
            .collect(engine="streaming")
            .row(0)
        )
        filled = range(min(numbers), max(numbers) + 1)
        fullest = max(numbers.values())
        bars = [Bar(_label(edges, at, worded), numbers.get(at, 0), numbers.get(at, 0) / fullest) for at in filled]
        made.append(
            Histogram(title=title, bars=bars, middle=worded(int(middle)), most=worded(int(most)), largest=worded(int(largest)))
        )
    return made


def _label(edges: Sequence[int], place: int, worded: Callable[[int], str]) -> str:
    start = _round(worded(edges[place]))
    if place == len(edges) - 1:
        return f"{start} or more"
    stop = edges[place + 1]
    if worded is not size:
        return start if stop == edges[place] + 1 else f"{start} to {worded(stop - 1)}"
    end = _round(size(stop))
    if edges[place] == 0:
        return f"below {end}"
    figure, unit = start.split()
    return f"{figure if end.endswith(unit) else start} to {end}"


def _round(worded: str) -> str:
    return worded.replace(".0 ", " ")
