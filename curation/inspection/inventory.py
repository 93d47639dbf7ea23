"""What the catalog lists and what of it lies under the root."""

from collections.abc import Mapping, Sequence
from typing import Any

from curation.catalog.spec import Catalog, Expected
from curation.storage.store import Store, latest, read_manifest


def inventory(catalog: Catalog, store: Store | None, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a source: category, licence, location, expected and ingested counts, state.

    `store` is None where nothing was ingested yet. `names` (all by default) must be sources: CatalogError otherwise.
    """
    rows: list[dict[str, Any]] = []
    for name in names or catalog.sources:
        source = catalog.source(name)
        folder = latest(store.root / "sources" / name) if store else None
        counts = read_manifest(folder)["counts"] if folder else None
        rows.append(
            {
                "source": name,
                "category": source.category.value,
                "license": source.license,
                "location": [str(part.location) for part in source.parts],
                "original": [str(original.location) for original in source.original],
                "reads_original": source.reads_original,
                "expected": source.expected.records,
                "records": counts["records"] if counts else None,
                "samples": counts["samples"] if counts else None,
                "rejected": sum(counts["rejected"].values()) if counts else None,
                "state": _state(source.expected, counts),
            }
        )
    return rows


def _state(expected: Expected, counts: Mapping[str, Any] | None) -> str:
    if counts is None:
        return "not ingested"
    return "ingested" if expected.agrees_with(counts["records"]) else "count differs"


def ingest_summary(name: str, manifest: Mapping[str, Any]) -> tuple[str, int, int, int, str]:
    """Source, records, samples, rejected, and the rejects by reason in words."""
    counts = manifest["counts"]
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in counts["rejected"].items())
    return name, counts["records"], counts["samples"], sum(counts["rejected"].values()), reasons
