"""The pictures of a plan: categories and sources as rings (paper, Figure 9), and running sums under a cap (Figure 10)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from curation.catalog.spec import Category

PAPER_CAPS = (150_000, 250_000, 350_000, 450_000)
_COLOURS = {
    Category.LANGUAGE: "#4e79a7",
    Category.GENERAL: "#f28e2b",
    Category.OCR: "#e15759",
    Category.COUNTING: "#499894",
    Category.MATH: "#59a14f",
    Category.CODE: "#b07aa1",
    Category.SCIENCE: "#c9a227",
}
_INNER, _MIDDLE, _OUTER = 60, 130, 200
_NAMED_SHARE, _NAMED_CATEGORY = 0.025, 0.05
_WIDTH = 620

Document = Mapping[str, Any]


def rings(document: Document) -> alt.LayerChart:
    """Categories inside, their sources outside, both by samples; the larger sources are named."""
    inner, outer = _arcs(document)
    order = list(dict.fromkeys(inner["category"].to_list()))
    colour = alt.Color("category:N", sort=order, scale=_scale(order), legend=None)
    centre = _ring(inner, colour, _INNER, _MIDDLE, 1.0).encode(tooltip=_tips("category"))
    rim = _ring(outer, colour, _MIDDLE + 2, _OUTER, 0.75).encode(tooltip=_tips("source", "category"))
    named = outer.filter(pl.col("share") >= _NAMED_SHARE)
    right, left = named.filter(pl.col("middle") <= math.pi), named.filter(pl.col("middle") > math.pi)
    inside = inner.filter(pl.col("share") >= _NAMED_CATEGORY)
    labels = [
        _labels(inside.with_columns(label=pl.col("category")), (_INNER + _MIDDLE) / 2, "center", "#ffffff"),
        _labels(right.with_columns(label=_named("source")), _OUTER + 8, "left", None),
        _labels(left.with_columns(label=_named("source")), _OUTER + 8, "right", None),
    ]
    return alt.layer(centre, rim, *labels).properties(width=_WIDTH, height=2 * _OUTER + 70)


def _arcs(document: Document) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Categories and sources with the angles of their arcs (radians, clockwise from the top), largest first."""
    schema = {"source": pl.String, "category": pl.String, "samples": pl.Int64}
    rows = [
        {"source": name, "category": entry["category"], "samples": entry["samples"]}
        for name, entry in document["sources"].items()
        if entry["samples"]
    ]
    sources = pl.DataFrame(rows, schema=schema)
    whole = sources.group_by("category").agg(pl.col("samples").sum().alias("in_category"))
    sources = sources.join(whole, on="category").sort(
        "in_category", "category", "samples", "source", descending=[True, False, True, False]
    )
    categories = sources.group_by("category", maintain_order=True).agg(pl.col("samples").sum())
    return _with_angles(categories), _with_angles(sources)


def _with_angles(rows: pl.DataFrame) -> pl.DataFrame:
    share = pl.col("samples") / pl.col("samples").sum()
    end = share.cum_sum() * 2 * math.pi
    return rows.with_columns(share=share, end=end, start=end - share * 2 * math.pi, middle=end - share * math.pi)


def _ring(rows: pl.DataFrame, colour: alt.Color, inside: float, outside: float, opacity: float) -> alt.Chart:
    arc = _chart(rows).mark_arc(innerRadius=inside, outerRadius=outside, opacity=opacity, stroke="white", strokeWidth=0.6)
    theta = alt.Theta("start:Q", scale=None, stack=None)
    return arc.encode(theta=theta, theta2=alt.Theta2("end:Q"), color=colour)


def _labels(rows: pl.DataFrame, radius: float, align: str, colour: str | None) -> alt.Chart:
    style: dict[str, Any] = {"radius": radius, "align": align, "baseline": "middle", "fontSize": 11}
    if colour is not None:
        style |= {"color": colour, "fontWeight": "bold"}
    return _chart(rows).mark_text(**style).encode(theta=alt.Theta("middle:Q", scale=None, stack=None), text="label:N")


def _named(column: str) -> pl.Expr:
    return pl.format("{} {}%", pl.col(column), (pl.col("share") * 100).round(1))


def _tips(*names: str) -> list[alt.Tooltip]:
    return [
        *(alt.Tooltip(f"{name}:N") for name in names),
        alt.Tooltip("samples:Q", format=","),
        alt.Tooltip("share:Q", format=".2%"),
    ]


def bars(document: Document) -> alt.Chart:
    """Shares of the categories: of what is available, and of the mixture."""
    rows = [
        {"of": kind, "category": name, "samples": entry[key]}
        for name, entry in document["categories"].items()
        for kind, key in (("available", "available"), ("mixture", "samples"))
    ]
    frame = pl.DataFrame(rows).with_columns(share=pl.col("samples") / pl.col("samples").sum().over("of"))
    order = frame.filter(pl.col("of") == "mixture").sort("samples", "category", descending=[True, False])["category"].to_list()
    return (
        _chart(frame.with_columns(place=pl.col("category").replace_strict({name: n for n, name in enumerate(order)})))
        .mark_bar()
        .encode(
            x=alt.X("samples:Q", stack="normalize", axis=alt.Axis(format="%"), title="share of samples"),
            y=alt.Y("of:N", title=None, sort=["available", "mixture"]),
            color=alt.Color("category:N", sort=order, scale=_scale(order), legend=alt.Legend(orient="bottom", title=None)),
            order="place:Q",
            tooltip=_tips("of", "category"),
        )
        .properties(width=_WIDTH - 70, height=90)
    )


def curves(document: Document, caps: Sequence[int]) -> alt.Chart:
    """Running sum of what sources give under each cap (0: none), sources from the smallest to the largest."""
    available = sorted((entry["available"], name) for name, entry in document["sources"].items())
    rows: list[dict[str, Any]] = []
    for cap in (*caps, 0):
        total = 0
        for rank, (number, name) in enumerate(available, start=1):
            total += min(number, cap) if cap else number
            rows.append({"rank": rank, "source": name, "sum": total, "t": f"{cap:,}" if cap else "none"})
    names = [*(f"{cap:,}" for cap in caps), "none"]
    return (
        _chart(pl.DataFrame(rows))
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(
            x=alt.X("rank:Q", title="sources, from the smallest to the largest", axis=alt.Axis(format="d")),
            y=alt.Y("sum:Q", title="samples, running sum", axis=alt.Axis(format="~s")),
            color=alt.Color("t:N", sort=names, scale=alt.Scale(scheme="tableau10"), title="cap t"),
            tooltip=[alt.Tooltip("source:N"), alt.Tooltip("t:N"), alt.Tooltip("sum:Q", format=",")],
        )
        .properties(width=_WIDTH - 130, height=300)
    )


def caps_to_show(document: Document) -> list[int]:
    """The paper's caps where sources are of that size, else parts of the largest; and the mixture's own."""
    largest = max((entry["available"] for entry in document["sources"].values()), default=0)
    shown = PAPER_CAPS if largest > PAPER_CAPS[0] else [part for part in (largest // 8, largest // 4, largest // 2) if part]
    own = document["resolved"].get("cap")
    return sorted({*shown, *([own] if own else [])})


def _scale(order: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(order), range=[_COLOURS[Category(name)] for name in order])


def _chart(rows: pl.DataFrame) -> alt.Chart:
    return alt.Chart(alt.Data(values=rows.to_dicts()))
