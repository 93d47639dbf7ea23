"""Samples whose pictures are known by reference only: planned with and held against benchmarks, but in no shard."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from curation.errors import DropReason
from curation.tables import REFERENCE_PREFIX


def lacking_pixels(sample_files: Sequence[Path]) -> pl.DataFrame:
    """Column sample_id: the samples in these files with a picture that is known by reference only."""
    named = [pl.DataFrame(schema={"sample_id": pl.String})]
    for path in sample_files:
        rows = pl.read_parquet(path, columns=["sample_id", "images"]).explode("images").unnest("images")
        named.append(rows.filter(pl.col("pixels").str.starts_with(REFERENCE_PREFIX)).select("sample_id").unique())
    return pl.concat(named)


def without_pixels(verdicts: pl.DataFrame, lacking: pl.DataFrame) -> pl.DataFrame:
    """`verdicts` with kept samples dropped, at stage `mix`, that are `lacking` (column sample_id) their pixels."""
    lacks = lacking.with_columns(lacks=pl.lit(True))
    rows = verdicts.join(lacks, on="sample_id", how="left", maintain_order="left")
    falls = (pl.col("verdict") == "keep") & pl.col("lacks").is_not_null()
    return rows.with_columns(
        stage=pl.when(falls).then(pl.lit("mix")).otherwise("stage"),
        verdict=pl.when(falls).then(pl.lit("drop")).otherwise("verdict"),
        reason=pl.when(falls).then(pl.lit(DropReason.NO_PIXELS.value)).otherwise("reason"),
    ).drop("lacks")
