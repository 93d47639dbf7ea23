"""Which samples a plan takes, and in which order they stand: keyed hashes, never positions in a list.

A source's samples have an order of their own under (seed, source): a quota takes the first of them. So a larger quota is a
superset of a smaller one, and what one source gives depends on no other source's samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.mixing.balance import Quota
from curation.tables import keyed_bits

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
NamesOf = Callable[[Ints], Sequence[str]]
"""The sample ids of rows: asked for only where two keys are equal, which among ten million samples has odds of 1 in 10^5."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a quota takes of a source: one entry a row. `times` it appears; or it is left out for one of two reasons."""

    times: npt.NDArray[np.int32]
    over_cap: Bools
    over_quota: Bools


def pick_keys(pick_bits: Keys, source: str, seed: int) -> Keys:
    """The place of each sample in the order in which quotas take them."""
    return keyed_bits(pick_bits, "pick", seed, source)


def choose(keys: Keys, candidates: Bools, units: Ints | None, quota: Quota, names_of: NamesOf) -> Choice:
    """Which of the rows that are `candidates` a quota takes, and how often.

    `units`: what the cap counts by, one number a row; None where it counts the source as a whole. Of each unit the first
    `quota.cap` are offered, of these at most `quota.offered`, and the first `quota.picked` are taken. Where samples repeat,
    all taken ones appear equally often, but for the first few, which appear once more.
    """
    offered = candidates
    if quota.cap is not None:
        if units is None:
            offered = first(keys, candidates, quota.cap, names_of)
        else:
            offered = np.zeros_like(candidates)
            for unit in np.unique(units[candidates]):
                offered |= first(keys, candidates & (units == unit), quota.cap, names_of)
    offered = first(keys, offered, quota.offered, names_of)
    picked = first(keys, offered, quota.picked, names_of)
    whole, extra = divmod(quota.samples, quota.picked) if quota.picked else (0, 0)
    times = picked.astype(np.int32) * np.int32(whole)
    times += first(keys, picked, extra, names_of)
    return Choice(times, candidates & ~offered, offered & ~picked)


def first(keys: Keys, among: Bools, number: int, names_of: NamesOf) -> Bools:
    """The `number` rows of `among` with the smallest keys; equal keys are told apart by the samples' names."""
    if number >= np.count_nonzero(among):
        return among
    found = np.zeros_like(among)
    if number <= 0:
        return found
    rows = np.flatnonzero(among)
    inside = keys[rows]
    last = np.partition(inside, number - 1)[number - 1]
    found[rows[inside < last]] = True
    level = rows[inside == last]
    missing = number - int(np.count_nonzero(inside < last))
    if missing < len(level):
        level = level[np.argsort(np.array(names_of(level), dtype=object), kind="stable")[:missing]]
    found[level] = True
    return found


def occurrences(times: npt.NDArray[np.int32]) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Rows and repeats (from 0): each row as often as `times` says."""
    taken = np.flatnonzero(times)
    counts = times[taken].astype(np.int64)
    repeats = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(taken, counts), repeats.astype(np.int32)


def stream_order(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """`rows` (columns sample_id, pick_bits, repeat and others) in the order of the shards: a seeded global shuffle."""
    bits = rows["pick_bits"].to_numpy() ^ (rows["repeat"].cast(pl.UInt64).to_numpy() * _GOLDEN)
    keyed = rows.with_columns(_order=pl.Series(keyed_bits(bits, "order", seed)))
    return keyed.sort("_order", "sample_id", "repeat").drop("_order")


def final_verdicts(pool: pl.DataFrame, not_taken: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The pool's verdicts, with kept samples that the mixture does not take dropped at stage `mix`.

    `not_taken`: tables with columns sample_id, reason, detail.
    """
    empty = pl.DataFrame(schema={"sample_id": pl.String, "reason": pl.String, "detail": pl.String})
    names = pl.concat([empty, *not_taken]).rename({"reason": "_not_taken", "detail": "_why"})
    rows = pool.join(names, on="sample_id", how="left", maintain_order="left")
    is_left_out = pl.col("_not_taken").is_not_null()
    return rows.with_columns(
        stage=pl.when(pl.col("verdict") == "keep").then(pl.lit("mix")).otherwise("stage"),
        verdict=pl.when(is_left_out).then(pl.lit("drop")).otherwise("verdict"),
        reason=pl.coalesce("_not_taken", "reason"),
        detail=pl.coalesce("_why", "detail"),
    ).drop("_not_taken", "_why")
