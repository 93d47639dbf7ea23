"""What changes between two mixtures: samples entering and leaving, counted one by one where picks can differ.

Where both pick from the same samples in the same order, what changes follows from the quotas alone; otherwise (another seed,
other conditions, another pool, caps by annotation file) both picks are made over the stored facts and held against each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.catalog.spec import Catalog
from curation.mixing.balance import Plan, Quota
from curation.mixing.picking import chosen, needed_columns, takes_all
from curation.mixture.spec import Mixture
from curation.planning.counts import Counts

Times = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Planned:
    """A mixture, its plan, and the counts that it was planned on."""

    mixture: Mixture
    plan: Plan
    counts: Counts

    def quota(self, source: str) -> Quota | None:
        """What `source` gives, if it takes part."""
        return self.plan.quotas.get(source)


def plan_difference(before: Planned, after: Planned, catalog: Catalog) -> dict[str, Any]:
    """Samples before, after, entering and leaving, by source and by category; repeats count as samples.

    `exact` is false where picks may differ and no stored facts tell which: figures are then the least that changes.
    """
    sources: dict[str, dict[str, Any]] = {}
    categories: dict[str, dict[str, int]] = {}
    is_exact = True
    for name in sorted({*before.plan.quotas, *after.plan.quotas}):
        change, exactly = _change(before, after, name, catalog)
        sources[name] = change
        is_exact &= exactly
        entry = categories.setdefault(catalog.sources[name].category.value, dict.fromkeys(change, 0))
        for key, number in change.items():
            entry[key] += number
    whole = {key: sum(change[key] for change in sources.values()) for key in ("before", "after", "entering", "leaving")}
    return {
        "total": {"before": whole["before"], "after": whole["after"]},
        "categories": dict(sorted(categories.items())),
        "sources": sources,
        "changed": {"entering": whole["entering"], "leaving": whole["leaving"]},
        "exact": is_exact,
    }


def _change(before: Planned, after: Planned, name: str, catalog: Catalog) -> tuple[dict[str, int], bool]:
    quotas = before.quota(name), after.quota(name)
    is_same_order = _share_order(before, after, name, catalog)
    has_tables = all(name in planned.counts.tables for planned in (before, after))
    samples = [quota.samples if quota else 0 for quota in quotas]
    exactly = True
    if is_same_order or None in quotas or 0 in samples or not has_tables:
        entering, leaving = _by_rank(*quotas)
        exactly = is_same_order or None in quotas or 0 in samples
    else:
        entering, leaving = _by_pick(*_times(before, after, name, catalog))
    return {"before": samples[0], "after": samples[1], "entering": entering, "leaving": leaving}, exactly


def _share_order(before: Planned, after: Planned, name: str, catalog: Catalog) -> bool:
    """Whether both take the first so many of the same samples in the same order."""
    category = catalog.sources[name].category
    settings: list[tuple[object, ...]] = []
    for planned in (before, after):
        quota, table = planned.quota(name), planned.counts.tables.get(name)
        by_file = planned.mixture.cap_unit == "annotation_file" and len(planned.counts.files.get(name, {})) > 1
        cap = quota.cap if quota is not None and by_file and quota.offered < quota.available else None
        conditions = tuple(where.model_dump_json() for where in planned.mixture.conditions(name, category))
        settings.append((planned.mixture.seed, conditions, table.kept if table else None, cap))
    return settings[0] == settings[1]


def _by_rank(before: Quota | None, after: Quota | None) -> tuple[int, int]:
    """Entering and leaving where both take a source's samples in one order."""
    edges = sorted({0, *_edges(before), *_edges(after)})
    entering = leaving = 0
    for start, stop in pairwise(edges):
        more = _times_at(after, start) - _times_at(before, start)
        entering += max(0, more) * (stop - start)
        leaving += max(0, -more) * (stop - start)
    return entering, leaving


def _edges(quota: Quota | None) -> Sequence[int]:
    return (quota.samples % quota.picked, quota.picked) if quota is not None and quota.picked else ()


def _times_at(quota: Quota | None, rank: int) -> int:
    """How often the sample at `rank` (from 0) of a source's order appears."""
    if quota is None or rank >= quota.picked:
        return 0
    whole, extra = divmod(quota.samples, quota.picked)
    return whole + (rank < extra)


def _by_pick(before: Times, after: Times) -> tuple[int, int]:
    more = after.astype(np.int64) - before
    return int(more[more > 0].sum()), int(-more[more < 0].sum())


def _times(before: Planned, after: Planned, name: str, catalog: Catalog) -> tuple[Times, Times]:
    """How often each sample of a source appears in both; what both read is read once."""
    source = catalog.sources[name]
    sides = [(planned, planned.counts.tables[name]) for planned in (before, after)]
    columns = {column for planned, _ in sides for column in needed_columns(planned.mixture, [source])}
    if not all(takes_all(planned.plan.quotas[name]) for planned, _ in sides):
        columns.add("pick_bits")
    first, second = (tables for _, tables in sides)
    facts = first.read(sorted(columns))
    masks = [first.read_kept()]
    masks.append(masks[0] if first.kept == second.kept else second.read_kept())
    found = [
        chosen(planned.mixture, source, facts, kept, planned.plan.quotas[name], tables.names_of).times
        for (planned, tables), kept in zip(sides, masks, strict=True)
    ]
    return found[0], found[1]
