"""Which samples a plan takes, and in which order they stand: keyed hashes, never positions in a list.

A source's samples have an order of their own under (seed, source): a quota takes the first of them. So a larger quota is a
superset of a smaller one, and what one source gives depends on no other source's samples.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from curation.balance import Quota
from curation.errors import DropReason
from curation.tables import id_bits, keyed_bits

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def pick_order(sample_ids: pl.Series, source: str, seed: int) -> pl.Series:
    """A source's samples in the order in which quotas take them, whatever order they come in."""
    by_name = sample_ids.sort()
    return by_name[np.argsort(keyed_bits(id_bits(by_name), "pick", seed, source), kind="stable")]


def occurrences(ordered: pl.Series, quota: Quota) -> pl.DataFrame:
    """Columns sample_id, repeat (from 0): `quota.samples` rows over the first `quota.picked` of `ordered`.

    Where samples repeat, all picked ones appear equally often, but for the first few, which appear once more.
    """
    picked = ordered[: quota.picked]
    whole, extra = divmod(quota.samples, quota.picked) if quota.picked else (0, 0)
    times = np.full(quota.picked, whole, np.int64)
    times[:extra] += 1
    total = int(times.sum())
    repeats = np.arange(total) - np.repeat(np.cumsum(times) - times, times)
    rows = np.repeat(np.arange(quota.picked), times)
    return pl.DataFrame({"sample_id": picked[rows], "repeat": pl.Series(repeats, dtype=pl.Int32)})


def left_out(ordered: pl.Series, quota: Quota) -> pl.DataFrame:
    """Columns sample_id, reason for the samples that the quota does not take."""
    over_quota = pl.DataFrame({"sample_id": ordered[quota.picked : quota.offered]})
    over_cap = pl.DataFrame({"sample_id": ordered[quota.offered :]})
    reasons = (DropReason.OVER_QUOTA, DropReason.OVER_CAP)
    named = zip((over_quota, over_cap), reasons, strict=True)
    return pl.concat([rows.with_columns(reason=pl.lit(reason.value)) for rows, reason in named])


def stream_order(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """`rows` (columns sample_id, repeat and others) in the order of the shards: a seeded global shuffle."""
    bits = id_bits(rows["sample_id"]) ^ (rows["repeat"].cast(pl.UInt64).to_numpy() * _GOLDEN)
    keyed = rows.with_columns(_order=pl.Series(keyed_bits(bits, "order", seed)))
    return keyed.sort("_order", "sample_id", "repeat").drop("_order")


def final_verdicts(pool: pl.DataFrame, not_taken: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The pool's verdicts, with kept samples that the mixture does not take dropped at stage `mix`."""
    empty = pl.DataFrame(schema={"sample_id": pl.String, "reason": pl.String})
    names = pl.concat([empty, *not_taken]).rename({"reason": "_not_taken"})
    rows = pool.join(names, on="sample_id", how="left", maintain_order="left")
    is_left_out = pl.col("_not_taken").is_not_null()
    return rows.with_columns(
        stage=pl.when(pl.col("verdict") == "keep").then(pl.lit("mix")).otherwise("stage"),
        verdict=pl.when(is_left_out).then(pl.lit("drop")).otherwise("verdict"),
        reason=pl.coalesce("_not_taken", "reason"),
    ).drop("_not_taken")
