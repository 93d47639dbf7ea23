"""Planning a mixture from counts alone: what was ingested, or what the publishers state. No picture is touched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from curation.balance import Plan, plan
from curation.catalog import UNKNOWN_LICENSE, Catalog
from curation.errors import PlanError
from curation.mixture import Mixture
from curation.steps.deduplicate import pool_fingerprint
from curation.store import Store, is_published, latest, read_manifest

Basis = Literal["ingested", "published"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Samples available from each source, and what to know about these figures."""

    available: Mapping[str, int]
    warnings: list[str]


def plan_mixture(mixture: Mixture, catalog: Catalog, counts: Counts) -> Plan:
    """The plan, with warnings on counts and licences in front of those on shares. Raises PlanError."""
    categories = {name: source.category for name, source in catalog.sources.items()}
    planned = plan(mixture, counts.available, categories)
    unknown = [
        name for name, quota in planned.quotas.items() if quota.samples and catalog.sources[name].license == UNKNOWN_LICENSE
    ]
    licences = [f"licence unknown: {', '.join(unknown)}"] if unknown else []
    return Plan(planned.mixture, planned.quotas, [*counts.warnings, *licences, *planned.warnings])


def published_counts(catalog: Catalog, mixture: Mixture) -> Counts:
    """The catalog's expected counts. Raises PlanError when no source of the mixture states one."""
    names = [name for name in catalog.sources if mixture.takes_part(name)]
    stated = {name: catalog.sources[name].expected.records for name in names}
    silent = [name for name, number in stated.items() if number is None]
    if len(silent) == len(names):
        raise PlanError(f"mixture '{mixture.name}': no source states an expected count; plan on ingested data instead")
    warnings = [f"no expected count: {', '.join(silent)}"] if silent else []
    return Counts({name: number or 0 for name, number in stated.items()}, warnings)


def ingested_counts(store: Store, catalog: Catalog, mixture: Mixture) -> Counts:
    """Samples under the root that de-duplication keeps; where it has not run yet, all samples, with a warning."""
    names = [name for name in catalog.sources if mixture.takes_part(name)]
    manifests = {name: _newest(store, "sources", name) for name in names}
    missing = [name for name, manifest in manifests.items() if manifest is None]
    warnings = [f"not ingested yet: {', '.join(missing)}"] if missing else []
    pooled = None if missing else _pool_counts(store, names)
    if pooled is not None:
        return Counts({name: int(pooled[name]["kept"]) for name in names}, warnings)
    warnings.append("counts are those before cleaning and de-duplication; `curate build` does both")
    available = {name: int(manifest["counts"]["samples"]) if manifest else 0 for name, manifest in manifests.items()}
    return Counts(available, warnings)


def _newest(store: Store, kind: str, name: str) -> dict[str, Any] | None:
    folder = latest(store.root / kind / name)
    return read_manifest(folder) if folder else None


def _pool_counts(store: Store, names: list[str]) -> dict[str, Any] | None:
    signatures = {name: latest(store.root / "signatures" / name) for name in names}
    fingerprints = {name: folder.name for name, folder in signatures.items() if folder is not None}
    folder = store.pool(pool_fingerprint(fingerprints))
    if len(fingerprints) < len(names) or not is_published(folder):
        return None
    counts: dict[str, Any] = read_manifest(folder)["counts"]
    return counts


def plan_difference(before: Plan, after: Plan) -> dict[str, Any]:
    """Samples before, after, entering and leaving, by source and by category.

    Picks are nested under one seed, so what enters a source is what its quota grows by; repeats count as samples.
    """
    names = sorted({*before.quotas, *after.quotas})
    sources = {name: _change(*(p.quotas[name].samples if name in p.quotas else 0 for p in (before, after))) for name in names}
    categories: dict[str, dict[str, int]] = {}
    for name, change in sources.items():
        quota = before.quotas.get(name) or after.quotas[name]
        entry = categories.setdefault(quota.category.value, dict.fromkeys(change, 0))
        for key, number in change.items():
            entry[key] += number
    totals = {"before": before.total, "after": after.total}
    return {"total": totals, "categories": dict(sorted(categories.items())), "sources": sources}


def _change(before: int, after: int) -> dict[str, int]:
    return {"before": before, "after": after, "entering": max(0, after - before), "leaving": max(0, before - after)}


def plan_document(planned: Plan) -> dict[str, Any]:
    """The plan as `curate plan --json` prints it."""
    categories: dict[str, dict[str, Any]] = {}
    for quota in planned.quotas.values():
        entry = categories.setdefault(quota.category.value, {"available": 0, "samples": 0, "share": 0.0})
        entry["available"] += quota.available
        entry["samples"] += quota.samples
    for entry in categories.values():
        entry["share"] = round(entry["samples"] / planned.total, 6) if planned.total else 0.0
    sources = {
        name: {
            "category": quota.category.value,
            "available": quota.available,
            "samples": quota.samples,
            "repeat": quota.repeat,
        }
        for name, quota in planned.quotas.items()
    }
    return {
        "mixture": planned.mixture,
        "total": planned.total,
        "categories": dict(sorted(categories.items())),
        "sources": sources,
        "warnings": list(planned.warnings),
    }
