"""What choosing samples asks of them, as narrow columns: numbers and one key a sample, no text and no pictures.

A plan over ten million samples reads these in tenths of a second, where the samples themselves would take minutes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curation.mixture.conditions import Where
from curation.tables import id_bits

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FACTS = pa.schema(
    [
        pa.field("pick_bits", pa.uint64()),
        pa.field("annotation_file", pa.dictionary(pa.int32(), pa.string())),
        pa.field("num_tokens", pa.int32()),
        pa.field("num_images", pa.int32()),
        pa.field("num_turns", pa.int32()),
        pa.field("num_text_bytes", pa.int32()),
        pa.field("min_width", pa.int32()),
        pa.field("max_width", pa.int32()),
        pa.field("min_height", pa.int32()),
        pa.field("max_height", pa.int32()),
        pa.field("about_bytes", pa.int64()),
    ]
)
"""One row a sample, in the order of the source's samples. `pick_bits` are the `id_bits` of its id; widths and heights (pixels)
are those of its smallest and largest picture, null without pictures; `about_bytes` is what it takes in a shard, about."""

MEMBER_OVERHEAD_BYTES = 1_024
SAMPLE_OVERHEAD_BYTES = 512


def read_facts(samples: Path) -> pl.DataFrame:
    """The FACTS of one file of samples, and the column sample_id; only the columns that they need are read."""
    rows = pl.scan_parquet(samples).select(
        "sample_id",
        pl.coalesce("annotation_file", "origin_file").alias("annotation_file"),
        "num_tokens",
        "num_images",
        "num_turns",
        "num_text_bytes",
        *_sizes("width"),
        *_sizes("height"),
        about_bytes=pl.col("num_text_bytes").cast(pl.Int64) + _of_pictures("num_bytes").list.sum().fill_null(0) + _overhead(),
    )
    found = rows.collect()
    return found.with_columns(pick_bits=pl.Series(id_bits(found["sample_id"]), dtype=pl.UInt64))


def read_ids(samples: Sequence[Path]) -> pl.DataFrame:
    """Column sample_id of all samples of a source, in order."""
    empty = pl.DataFrame(schema={"sample_id": pl.String})
    return pl.concat([empty, *(pl.read_parquet(path, columns=["sample_id"]) for path in samples)])


PLACES = {
    "sample_id": pl.String,
    "pick_bits": pl.UInt64,
    "file": pl.Int32,
    "row": pl.UInt32,
    "about_bytes": pl.Int64,
    "repeat": pl.Int32,
}
"""What is known of an occurrence before it is rendered: `row` counts from 0 within the source's file number `file`."""


def read_source(samples: Sequence[Path], first_file: int = 0) -> pl.DataFrame:
    """The FACTS of all samples of a source, with columns sample_id, file (numbered from `first_file`) and row."""
    empty = pl.DataFrame(FACTS.empty_table()).with_columns(pl.col("annotation_file").cast(pl.String))
    nothing = empty.with_columns(sample_id=pl.lit("", pl.String), file=pl.lit(0, pl.Int32), row=pl.lit(0, pl.UInt32)).clear()
    parts = [
        read_facts(path)
        .with_columns(file=pl.lit(number, pl.Int32), row=pl.int_range(pl.len(), dtype=pl.UInt32))
        .select(nothing.columns)
        for number, path in enumerate(samples, start=first_file)
    ]
    return pl.concat([nothing, *parts])


def _of_pictures(name: str) -> pl.Expr:
    return pl.col("images").list.eval(pl.element().struct.field(name))


def _sizes(name: str) -> list[pl.Expr]:
    return [_of_pictures(name).list.min().alias(f"min_{name}"), _of_pictures(name).list.max().alias(f"max_{name}")]


def _overhead() -> pl.Expr:
    return SAMPLE_OVERHEAD_BYTES + MEMBER_OVERHEAD_BYTES * (1 + pl.col("num_images").cast(pl.Int64))


def passing(facts: pl.DataFrame, conditions: Sequence[Where]) -> Bools:
    """Whether each row of `facts` meets all conditions."""
    checks = [check for where in conditions for check, _ in where.checks()]
    if not checks:
        return np.ones(len(facts), np.bool_)
    met: Bools = facts.select(met=pl.all_horizontal(checks))["met"].to_numpy()
    return met


def failures(facts: pl.DataFrame, conditions: Sequence[Where]) -> pl.DataFrame:
    """Columns sample_id, detail for the rows that fail a condition: the first that each fails, with what was found."""
    detail = pl.lit(None, pl.String)
    for where in reversed(conditions):
        for (check, message), columns in zip(reversed(where.checks()), reversed(_columns(where)), strict=True):
            said = pl.format(f"{message}: {' to '.join('{}' for _ in columns)}", *(pl.col(name) for name in columns))
            detail = pl.when(check).then(detail).otherwise(said)
    return facts.select("sample_id", detail=detail).drop_nulls("detail")


def _columns(where: Where) -> list[list[str]]:
    """The columns behind each check, in the order of `checks`."""
    names = where.columns()
    pairs = {name: [name.replace("min_", "max_")] for name in names if name.startswith("min_")}
    return [[name, *pairs.get(name, [])] for name in names if not name.startswith("max_")]


def unit_codes(facts: pl.DataFrame) -> Ints:
    """A number for each row, equal where the annotation file is."""
    codes: Ints = facts["annotation_file"].cast(pl.String).rank("dense").cast(pl.Int64).to_numpy()
    return codes


def counts_by_file(facts: pl.DataFrame) -> Mapping[str, int]:
    """Rows by annotation file, by name."""
    found = facts.group_by(pl.col("annotation_file").cast(pl.String)).len().sort("annotation_file")
    return {str(name): int(number) for name, number in found.iter_rows()}


def totals_by_file(facts: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Samples, tokens, images and bytes (about, in shards) by annotation file."""
    found = facts.group_by(pl.col("annotation_file").cast(pl.String)).agg(
        samples=pl.len(),
        num_tokens=pl.col("num_tokens").cast(pl.Int64).sum(),
        num_images=pl.col("num_images").cast(pl.Int64).sum(),
        num_bytes=pl.col("about_bytes").sum(),
    )
    rows = found.sort("annotation_file").to_dicts()
    return {str(row.pop("annotation_file")): {key: int(value) for key, value in row.items()} for row in rows}
