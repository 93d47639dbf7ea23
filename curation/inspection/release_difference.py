"""What changed from one release to another: sample occurrences entering, leaving and staying, by source and category."""

from pathlib import Path
from typing import Any

import polars as pl

from curation.shard_format import INDEX_NAME
from curation.storage.store import address, read_manifest

_KEY = ["sample_id", "repeat"]


def release_difference(before: Path | None, after: Path) -> dict[str, Any]:
    """The change as a document; without a release `before`, everything enters."""
    new = _occurrences(after)
    old = _occurrences(before) if before else new.clear()
    entering, leaving = new.join(old, on=_KEY, how="anti"), old.join(new, on=_KEY, how="anti")
    parts = {"before": old, "after": new, "entering": entering, "leaving": leaving}
    return {
        "before": address(before) if before else None,
        "after": address(after),
        "total": {name: part.select(pl.len()).collect().item() for name, part in parts.items()},
        "categories": _by("category", parts),
        "sources": _by("source", parts),
    }


def _occurrences(folder: Path) -> pl.LazyFrame:
    read_manifest(folder)  # brings the index, where the root is elsewhere
    return pl.scan_parquet(folder / INDEX_NAME).select(*_KEY, "source", "category")


def _by(column: str, parts: dict[str, pl.LazyFrame]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, part in parts.items():
        for value, number in part.group_by(column).len().sort(column).collect().iter_rows():
            found.setdefault(value, dict.fromkeys(parts, 0))[name] = number
    return dict(sorted(found.items()))
