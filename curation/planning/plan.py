"""Planning a mixture from counts alone, and saying what the plan would come to. No sample and no picture is touched."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from curation.catalog.spec import UNKNOWN_LICENSE, Catalog, Source
from curation.errors import LicenceError
from curation.mixing.balance import Plan, Quota, plan
from curation.mixture.spec import Mixture, participants
from curation.planning.counts import Counts, Totals

OVERLAP_TAG = "overlaps-"
"""A catalog row's tag `overlaps-<benchmark>` says that its pictures or questions are known to occur in that benchmark."""

_MAX_LISTED = 8
_FIGURES = ("num_tokens", "num_images", "num_bytes")


def plan_mixture(mixture: Mixture, catalog: Catalog, counts: Counts) -> Plan:
    """The plan, with warnings on counts and licences in front of those on shares. Raises PlanError."""
    categories = {name: source.category for name, source in catalog.sources.items()}
    planned = plan(mixture, counts.available, categories, counts.files)
    giving = [catalog.sources[name] for name, quota in planned.quotas.items() if quota.samples]
    known = [*_licences(giving), *_overlaps(giving)]
    return replace(planned, warnings=[*counts.warnings, *known, *planned.warnings])


def _licences(sources: list[Source]) -> list[str]:
    unknown = [source.name for source in sources if source.license == UNKNOWN_LICENSE]
    return [f"licence unknown: {_listed(unknown)}"] if unknown else []


def _listed(names: list[str]) -> str:
    """Names, or the first of many."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_MAX_LISTED])} and {more} more"


def _overlaps(sources: list[Source]) -> list[str]:
    found: dict[str, list[str]] = {}
    for source in sources:
        for tag in source.tags:
            if tag.startswith(OVERLAP_TAG):
                found.setdefault(tag.removeprefix(OVERLAP_TAG), []).append(source.name)
    return [f"known to overlap benchmark '{benchmark}': {_listed(names)}" for benchmark, names in sorted(found.items())]


def require_licences(mixture: Mixture, catalog: Catalog) -> None:
    """Raises LicenceError when a source that takes part has no known licence."""
    unknown = [name for name, source in participants(mixture, catalog.sources).items() if source.license == UNKNOWN_LICENSE]
    if unknown:
        raise LicenceError(
            f"mixture '{mixture.name}': the licence of {len(unknown)} of its sources is unknown ({_listed(unknown)}); state "
            f"it in the catalog once it is known, or leave them out with `exclude: {{licenses: [{UNKNOWN_LICENSE}]}}`"
        )


def plan_document(planned: Plan, catalog: Catalog, mixture: Mixture, counts: Counts) -> dict[str, Any]:
    """The plan as `curate plan --json` prints it. `details` add to the entries of their names; unmeasured figures are null."""
    sources = {name: _source_entry(quota) for name, quota in planned.quotas.items()}
    more = {name: _source_details(quota, catalog, counts.totals.get(name)) for name, quota in planned.quotas.items()}
    categories: dict[str, dict[str, Any]] = {}
    amounts: dict[str, dict[str, int | None]] = {}
    for name, entry in sources.items():
        into = categories.setdefault(entry["category"], {"available": 0, "samples": 0, "share": 0.0})
        into["available"] += entry["available"]
        into["samples"] += entry["samples"]
        amounts[entry["category"]] = _added(amounts.get(entry["category"]), more[name])
    for entry in categories.values():
        entry["share"] = round(entry["samples"] / planned.total, 6) if planned.total else 0.0
    whole: dict[str, int | None] | None = None
    for part in amounts.values():
        whole = _added(whole, part)
    return {
        "mixture": planned.mixture,
        "total": planned.total,
        "categories": dict(sorted(categories.items())),
        "sources": sources,
        "warnings": list(planned.warnings),
        "details": {"total": whole or dict.fromkeys(_FIGURES, 0), "categories": dict(sorted(amounts.items())), "sources": more},
        "resolved": resolved(mixture),
        "reproduces": _beside(mixture, planned.total),
    }


def _beside(mixture: Mixture, total: int) -> dict[str, Any] | None:
    """The printed figure that the mixture is meant to come to, beside its own."""
    if mixture.reproduces is None:
        return None
    printed = mixture.reproduces.total
    return {"source": mixture.reproduces.source, "printed": printed, "here": total, "difference": total - printed}


def _source_entry(quota: Quota) -> dict[str, Any]:
    return {
        "category": quota.category.value,
        "available": quota.available,
        "samples": quota.samples,
        "repeat": quota.repeat,
    }


def _source_details(quota: Quota, catalog: Catalog, totals: Totals | None) -> dict[str, Any]:
    return {
        "epochs": round(quota.epochs, 4),
        "license": catalog.sources[quota.source].license,
        **{name: _projected(quota, totals, name) for name in _FIGURES},
    }


def _projected(quota: Quota, totals: Totals | None, name: str) -> int | None:
    """What the source's samples in the mixture amount to, at the mean of all that may be picked."""
    if not quota.samples:
        return 0
    if totals is None or not totals.samples:
        return None
    whole: int = getattr(totals, name)
    return round(quota.samples * whole / totals.samples)


def _added(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> dict[str, int | None]:
    """Figures added up; unknown where one of them is."""
    if one is None:
        return {name: other[name] for name in _FIGURES}
    return {name: None if one[name] is None or other[name] is None else one[name] + other[name] for name in _FIGURES}


def resolved(mixture: Mixture) -> dict[str, Any]:
    """The mixture as it reads with everything it extends put in; keys at their defaults are left out."""
    written: dict[str, Any] = {"name": mixture.name, **mixture.model_dump(mode="json", exclude_defaults=True)}
    if written.get("decontaminate") == {}:
        written["decontaminate"] = "all"  # with everything at its default, as people write it
    return written


def curriculum_document(name: str, stages: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The plans of a mixture with stages as `curate plan --json` prints them: those of all stages, and what they add up to."""
    categories: dict[str, dict[str, Any]] = {}
    sources: dict[str, dict[str, Any]] = {}
    total = sum(document["total"] for document in stages.values())
    for document in stages.values():
        for kind, into in (("categories", categories), ("sources", sources)):
            for key, entry in document[kind].items():
                known = into.setdefault(key, entry | {"samples": 0})
                known["samples"] += entry["samples"]
                known["available"] = max(known["available"], entry["available"])
                if "repeat" in entry:
                    known["repeat"] = max(known["repeat"], entry["repeat"])
    for entry in categories.values():
        entry["share"] = round(entry["samples"] / total, 6) if total else 0.0
    warnings = [f"stage '{stage}': {warning}" for stage, document in stages.items() for warning in document["warnings"]]
    return {
        "mixture": name,
        "total": total,
        "categories": dict(sorted(categories.items())),
        "sources": dict(sorted(sources.items())),
        "warnings": warnings,
        "stages": dict(stages),
    }
