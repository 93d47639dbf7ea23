"""Lengths, sizes and their spread over the samples of all sources, by source and by category, whatever they weigh.

Every file becomes a few histograms, of exact values but for bytes (three digits). Histograms add up: quantiles are exact,
memory is bounded by the number of distinct values, and neither order nor partitions matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OF_SAMPLES = ("num_tokens", "num_turns", "num_images", "num_text_bytes")
OF_PICTURES = ("width", "height", "num_bytes")
TOKEN_EDGES = (32, 128, 512, 2_048)
KEYS = ("source", "measure", "value")
EMPTY = pd.DataFrame({name: pd.Series(dtype="int64") for name in (*KEYS, "count")})
"""Histograms: `source` is a place in the list of sources, `measure` one in MEASURES; numbers, since they add up cheaply."""

_CROSS = "pictures x tokens"
MEASURES = (*OF_SAMPLES, *(f"picture_{name}" for name in OF_PICTURES), _CROSS)
_SCALE = 100
_FEW_VALUES = 1 << 16


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of samples; `source` is the place of its source in the list of sources."""

    source: int
    path: str


def pieces(samples: Mapping[str, Sequence[Path]]) -> list[Piece]:
    """The pieces of all files, by source, whose place is that in `samples`."""
    return [Piece(number, str(path)) for number, files in enumerate(samples.values()) for path in files]


def tally(piece: Piece) -> pd.DataFrame:
    """The histograms of one file, read a row group at a time: how many samples or pictures have each value of each measure."""
    columns = [*OF_SAMPLES, *(f"images.list.element.{name}" for name in OF_PICTURES)]
    file = pq.ParquetFile(piece.path)
    found: dict[str, tuple[Ints, Ints]] = {}
    for number in range(file.num_row_groups):
        table = file.read_row_group(number, columns=columns, use_threads=False)
        for measure, values in (*_of_samples(table), *_of_pictures(table)):
            if len(values):
                here = histogram(values)
                found[measure] = added(found[measure], here) if measure in found else here
    parts = [
        np.stack([np.full_like(values, piece.source), np.full_like(values, MEASURES.index(measure)), values, counts])
        for measure, (values, counts) in found.items()
    ]
    if not parts:
        return EMPTY
    return pd.DataFrame(np.concatenate(parts, axis=1).T, columns=[*KEYS, "count"])


def histogram(values: Ints) -> tuple[Ints, Ints]:
    """The different values, ascending, and how often each occurs."""
    if values.min() >= 0 and values.max() < _FEW_VALUES:
        counts = np.bincount(values)
        found = np.flatnonzero(counts)
        return found, counts[found]
    found, counts = np.unique(values, return_counts=True)
    return found, counts


def added(one: tuple[Ints, Ints], other: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Two histograms as one."""
    values, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, places, np.concatenate([one[1], other[1]]))
    return values, counts


def _of_samples(table: pa.Table) -> Iterator[tuple[str, Ints]]:
    values = {name: table.column(name).to_numpy().astype(np.int64) for name in OF_SAMPLES}
    for name in OF_SAMPLES:
        yield name, _three_digits(values[name]) if name.endswith("_bytes") else values[name]
    tokens = np.searchsorted(np.array(TOKEN_EDGES), values["num_tokens"])
    yield _CROSS, np.minimum(values["num_images"], 2) * _SCALE + tokens


def _of_pictures(table: pa.Table) -> Iterator[tuple[str, Ints]]:
    pictures = pc.list_flatten(table.column("images"))
    for name in OF_PICTURES:
        values = pc.struct_field(pictures, name).to_numpy().astype(np.int64)
        yield f"picture_{name}", _three_digits(values) if name.endswith("_bytes") else values


def _three_digits(values: Ints) -> Ints:
    """Values rounded down to three significant digits, so that there are few different ones."""
    digits = np.floor(np.log10(np.maximum(values, 1))).astype(np.int64)
    unit = 10 ** np.maximum(digits - 2, 0)
    rounded: Ints = values // unit * unit
    return rounded


def statistics(histograms: pd.DataFrame, categories: Mapping[str, str]) -> dict[str, Any]:
    """Summaries by source and by category, and for each category a table of pictures against tokens.

    `histograms`: as EMPTY, each (source, measure, value) at most once. `categories`: category by source, in the order of the
    list that `source` counts in.
    """
    names, kinds = list(categories), list(categories.values())
    named = histograms.assign(
        source=[names[number] for number in histograms["source"]],
        category=[kinds[number] for number in histograms["source"]],
        measure=[MEASURES[number] for number in histograms["measure"]],
    )
    by_category = named.groupby(["category", "measure", "value"], as_index=False)["count"].sum()
    return {
        "sources": _summaries(named, "source"),
        "categories": _summaries(by_category, "category"),
        "crosstab": {
            "rows": ["0 pictures", "1 picture", "2 or more"],
            "columns": [*(f"at most {edge:,}" for edge in TOKEN_EDGES), f"over {TOKEN_EDGES[-1]:,}"],
            "samples": _crosstabs(by_category),
        },
    }


def _summaries(histograms: pd.DataFrame, key: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (name, measure), rows in histograms[histograms["measure"] != _CROSS].groupby([key, "measure"]):
        values, counts = rows["value"].to_numpy(np.int64), rows["count"].to_numpy(np.int64)
        entry = found.setdefault(str(name), {})
        entry[str(measure)] = summary(values, counts)
    for entry in found.values():
        entry["samples"] = entry["num_tokens"]["count"]
    return found


def summary(values: Ints, counts: Ints) -> dict[str, float | int]:
    """Count, mean, extremes and quantiles of a histogram; a quantile q is the smallest value that a share q is not above."""
    order = np.argsort(values)
    values, counts = values[order], counts[order]
    running = np.cumsum(counts)
    whole = int(running[-1])
    places = np.searchsorted(running, np.ceil(np.array(QUANTILES) * whole).astype(np.int64))
    return {
        "count": whole,
        "mean": round(float(values @ counts) / whole, 2),
        "min": int(values[0]),
        **{f"p{round(q * 100):02d}": int(values[place]) for q, place in zip(QUANTILES, places, strict=True)},
        "max": int(values[-1]),
    }


def _crosstabs(by_category: pd.DataFrame) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for name, rows in by_category[by_category["measure"] == _CROSS].groupby("category"):
        cells = np.zeros((3, len(TOKEN_EDGES) + 1), np.int64)
        cells[rows["value"] // _SCALE, rows["value"] % _SCALE] = rows["count"]
        found[str(name)] = cells.tolist()
    return found
