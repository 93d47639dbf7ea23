"""Statistics on the terminal, at most 80 columns wide."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.views import table

_COLUMNS = ("samples", "tokens", "p95", "turns", "images", "width", "height")


def show_statistics(console: Console, document: Mapping[str, Any]) -> None:
    """Medians by category and by source, and pictures against tokens."""
    for kind, title in (("categories", "category"), ("sources", "source")):
        rows = [(name, *_figures(entry)) for name, entry in document[kind].items()]
        console.print(table(f"medians by {title} (p95: of tokens; images: of all samples)", (title, *_COLUMNS), rows))
        console.print()
    cross = document["crosstab"]
    for name, cells in cross["samples"].items():
        rows = [(label, *numbers) for label, numbers in zip(cross["rows"], cells, strict=True)]
        console.print(table(f"{name}: samples by pictures and tokens", ("", *cross["columns"]), rows))


def _figures(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    middle = [entry[name]["p50"] if name in entry else "-" for name in ("picture_width", "picture_height")]
    images = round(entry["num_images"]["mean"] * entry["samples"])
    return (
        entry["samples"],
        entry["num_tokens"]["p50"],
        entry["num_tokens"]["p95"],
        entry["num_turns"]["p50"],
        images,
        *middle,
    )
