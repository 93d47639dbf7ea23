"""From contacts to verdicts, and to the leakage table: how many of a benchmark's pictures and items each source holds."""

import polars as pl

from curation.errors import DropReason
from curation.mixture.decontamination import DecontaminationSpec, Signal

STAGE = "decontaminate"
ALL_SOURCES = "*"
"""Stands in the leakage table for all sources together: an item that two of them hold counts once."""

LEAKAGE = {
    "benchmark": pl.String, "source": pl.String, "items": pl.Int64, "images": pl.Int64, "image_hits": pl.Int64,
    "image_percent": pl.Float64, "image_items": pl.Int64, "image_and_question_items": pl.Int64, "question_items": pl.Int64,
    "cover_items": pl.Int64, "samples": pl.Int64, "dropped": pl.Int64,
}  # fmt: skip
"""`image_hits` of a benchmark's `images` pictures are in the source; `*_items` of its `items` are met that way; `samples` of
the source meet it in any way, and `dropped` are dropped for it (for whichever benchmark comes first)."""

_STRENGTH = {
    signal.value: rank
    for rank, signal in enumerate((Signal.IMAGE_AND_QUESTION, Signal.IMAGE, Signal.TEXT_QUESTION, Signal.QUESTION,
                                   Signal.TEXT_COVER, Signal.COVER))
}  # fmt: skip


def decontaminated(verdicts: pl.DataFrame, met: pl.DataFrame, spec: DecontaminationSpec) -> pl.DataFrame:
    """`verdicts` (rows of VERDICTS), with kept samples dropped that the rules drop for what they met (rows of CONTACTS).

    The twin is the item met, the reason `contaminated`, the detail says how.
    """
    names = met["benchmark"].unique().to_list()
    pairs = [(name, signal.value) for name in names for signal in spec.dropping(name)]
    dropping = pl.DataFrame(pairs, schema={"benchmark": pl.String, "signal": pl.String}, orient="row")
    strongest = (
        met.join(dropping, on=["benchmark", "signal"], how="semi")
        .with_columns(strength=pl.col("signal").replace_strict(_STRENGTH, return_dtype=pl.Int32))
        .sort("sample_id", "strength", "benchmark", "item_id")
        .unique("sample_id", keep="first", maintain_order=True)
    )
    how = pl.format("{}: same {}", "benchmark", pl.col("signal").str.replace("text_", "").str.replace_all("_", " "))
    share = pl.format("{}: {}% of its n-grams", "benchmark", (pl.col("cover") * 100).round(0).cast(pl.Int64))
    told = strongest.select("sample_id", item="item_id", told=pl.when(pl.col("cover").is_null()).then(how).otherwise(share))
    rows = verdicts.join(told, on="sample_id", how="left", maintain_order="left")
    falls = (pl.col("verdict") == "keep") & pl.col("item").is_not_null()
    return rows.with_columns(
        stage=pl.when(falls).then(pl.lit(STAGE)).otherwise("stage"),
        verdict=pl.when(falls).then(pl.lit("drop")).otherwise("verdict"),
        reason=pl.when(falls).then(pl.lit(DropReason.CONTAMINATED.value)).otherwise("reason"),
        twin_id=pl.when(falls).then(pl.col("item")).otherwise("twin_id"),
        detail=pl.when(falls).then(pl.col("told")).otherwise("detail"),
    ).drop("item", "told")


def leakage(
    benchmarks: pl.DataFrame, met: pl.DataFrame, hits: pl.DataFrame, pictures: pl.DataFrame, verdicts: pl.DataFrame
) -> pl.DataFrame:
    """Rows of LEAKAGE: every benchmark against every source that meets it, and against all (`*`).

    `benchmarks` has columns benchmark, items, images. The others are rows of CONTACTS, HITS and PICTURE_HITS with a column
    source more; `verdicts` those of `decontaminated`.
    """
    everywhere = pl.lit(ALL_SOURCES).alias("source")
    dropped = verdicts.filter(pl.col("stage") == STAGE).select("sample_id", "source", "detail")
    dropped = dropped.with_columns(benchmark=pl.col("detail").str.split(": ").list.first())
    keys = ["benchmark", "source"]
    counted: list[pl.DataFrame] = []
    for shift in (pl.col("source"), everywhere):
        images = pictures.with_columns(shift).group_by(keys).agg(image_hits=pl.col("pixels").n_unique())
        by_signal = [
            hits.with_columns(shift)
            .filter(pl.col("signal") == signal.value)
            .group_by(keys)
            .agg(pl.col("item_id").n_unique().alias(f"{signal.value}_items"))
            for signal in (Signal.IMAGE, Signal.IMAGE_AND_QUESTION, Signal.QUESTION, Signal.COVER)
        ]
        samples = met.with_columns(shift).group_by(keys).agg(samples=pl.col("sample_id").n_unique())
        gone = dropped.with_columns(shift).group_by(keys).agg(dropped=pl.len())
        rows = benchmarks.select("benchmark", everywhere) if shift is everywhere else samples.select(keys)
        for table in (images, *by_signal, samples, gone):
            rows = rows.join(table, on=keys, how="left")
        counted.append(rows.join(benchmarks, on="benchmark"))
    table = pl.concat(counted).with_columns(pl.exclude("benchmark", "source").fill_null(0).cast(pl.Int64))
    percent = pl.when(pl.col("images") > 0).then(100 * pl.col("image_hits") / pl.col("images")).otherwise(0.0)
    return table.with_columns(image_percent=percent).select(list(LEAKAGE)).sort("benchmark", "source")
