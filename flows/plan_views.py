"""A plan on the terminal, at most 80 columns wide."""

from collections.abc import Mapping
from typing import Any

import yaml
from rich.console import Console

from flows.views import share, table


def show_plan(console: Console, document: Mapping[str, Any]) -> None:
    """The plan by category and by source, what it amounts to, and what to know before building it."""
    written = document["resolved"]
    if len(written) > 1:
        text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=70, default_flow_style=None)
        console.print(text, highlight=False, markup=False)
    console.print(_by_category(document))
    console.print()
    console.print(_by_source(document))
    if document["details"]["total"]["num_bytes"] is not None:
        console.print(f"in shards about {_size(document['details']['total']['num_bytes'])}", highlight=False)
    if (beside := document["reproduces"]) is not None:
        text = f"printed ({beside['source']}): {beside['printed']:,}; here {beside['here']:,}, {beside['difference']:+,}"
        console.print(text, highlight=False, markup=False)
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


def _by_category(document: Mapping[str, Any]) -> Any:
    rows: list[tuple[Any, ...]] = [
        (
            name,
            entry["available"],
            entry["samples"],
            f"{entry['share']:.1%}",
            *_amounts(document["details"]["categories"][name]),
        )
        for name, entry in document["categories"].items()
    ]
    rows.append(("total", sum(row[1] for row in rows), document["total"], "100.0%", *_amounts(document["details"]["total"])))
    columns = ("category", "available", "samples", "share", "tokens", "images", "size")
    return table(f"mixture {document['mixture']}, by category", columns, rows)


def _by_source(document: Mapping[str, Any]) -> Any:
    rows = [
        (
            name,
            entry["category"],
            document["details"]["sources"][name]["license"],
            entry["available"],
            entry["samples"],
            share(entry["samples"], document["total"]),
            f"{document['details']['sources'][name]['epochs']:.2f}",
        )
        for name, entry in document["sources"].items()
    ]
    columns = ("source", "category", "licence", "available", "samples", "share", "epochs")
    return table("by source", columns, rows, text_columns=3)


def _amounts(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return (_short(entry["num_tokens"]), _short(entry["num_images"]), _size(entry["num_bytes"]))


def _short(number: int | None) -> str:
    """A count in at most six characters; `-` where nothing was measured."""
    if number is None:
        return "-"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.1f}{unit}"
    return str(number)


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "-"
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} B"
