"""Exact duplicates: the same pictures, by what they show, and the same turns, as normalised. One without the other is none."""

import polars as pl

from curation.errors import DropReason

STAGE = "dedup"


def exact_duplicates(signatures: pl.LazyFrame) -> pl.LazyFrame:
    """Columns sample_id, twin_id for every sample that repeats another; the twin is its keeper.

    `signatures` has columns sample_id, text_key, image_key. Of samples with equal keys the smallest sample_id is kept, so the
    result depends neither on order nor on partitions.
    """
    keys = ["text_key", "image_key"]
    keepers = signatures.group_by(keys).agg(pl.col("sample_id").min().alias("twin_id"), pl.len().alias("num_alike"))
    repeated = keepers.filter(pl.col("num_alike") > 1).drop("num_alike")
    return signatures.join(repeated, on=keys).filter(pl.col("sample_id") != pl.col("twin_id")).select("sample_id", "twin_id")


def verdicts(signatures: pl.LazyFrame) -> pl.DataFrame:
    """Rows of VERDICTS for all samples, sorted by sample_id: kept, dropped by itself, or dropped for its twin.

    `signatures` has the columns of SIGNATURES. Samples dropped by themselves are nobody's twin.
    """
    judged = signatures.filter(pl.col("reason").is_null())
    twins = exact_duplicates(judged).with_columns(copy_of=pl.lit(DropReason.EXACT_DUPLICATE.value))
    rows = signatures.select("sample_id", "source", "reason").join(twins, on="sample_id", how="left")
    is_clean_drop = pl.col("reason").is_not_null()
    reason = pl.coalesce("reason", "copy_of")
    detail = pl.when(pl.col("twin_id").is_not_null()).then(pl.lit("same pixels and same normalised turns"))
    return (
        rows.select(
            "sample_id",
            "source",
            stage=pl.when(is_clean_drop).then(pl.lit("clean")).otherwise(pl.lit(STAGE)),
            verdict=pl.when(reason.is_null()).then(pl.lit("keep")).otherwise(pl.lit("drop")),
            reason=reason,
            twin_id="twin_id",
            detail=detail,
        )
        .sort("sample_id")
        .collect()
    )
