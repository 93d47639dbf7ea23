"""Applying a mixture to one source at a time: how many of its samples may be picked, and which ones are.

A source is its FACTS (one row a sample) and a mask of the rows that the pool keeps; nothing here reads or writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from curation.catalog.spec import Source
from curation.errors import DropReason
from curation.facts import Bools, counts_by_file, failures, passing, unit_codes
from curation.mixing.balance import Quota
from curation.mixing.selection import Choice, NamesOf, choose, pick_keys
from curation.mixture.spec import Mixture


@dataclass(frozen=True, slots=True)
class Held:
    """Samples of a source that may be picked: in all, and by annotation file."""

    available: int
    by_file: Mapping[str, int]


def needed_columns(mixture: Mixture, sources: Sequence[Source]) -> list[str]:
    """The columns of FACTS that counting and choosing read for these sources."""
    stated = [where for source in sources for where in mixture.conditions(source.name, source.category)]
    names = {column for where in stated for column in where.columns()}
    if mixture.cap_unit == "annotation_file":
        names.add("annotation_file")
    return sorted(names)


def is_counted_by_hand(mixture: Mixture, source: Source) -> bool:
    """Whether the samples of `source` that may be picked follow from its facts only, not from how many the pool keeps."""
    has_unit = mixture.cap_unit == "annotation_file" and mixture.cap_of(source.name, source.category) is not None
    return has_unit or bool(mixture.conditions(source.name, source.category))


def kept_rows(facts: pl.DataFrame, verdicts: pl.DataFrame, source: str) -> Bools:
    """Which rows of a source the pool keeps. `facts` has column sample_id; `verdicts` those of VERDICTS, of any sources."""
    names = verdicts.filter((pl.col("source") == source) & (pl.col("verdict") == "keep")).select("sample_id", kept=True)
    found = facts.select("sample_id").join(names, on="sample_id", how="left", maintain_order="left")
    kept: Bools = found["kept"].fill_null(value=False).to_numpy()
    return kept


def held(mixture: Mixture, source: Source, facts: pl.DataFrame, kept: Bools) -> Held:
    """What `source` may give of its rows that are `kept`."""
    candidates = _candidates(mixture, source, facts, kept)
    by_file = counts_by_file(facts.filter(candidates)) if mixture.cap_unit == "annotation_file" else {}
    return Held(int(np.count_nonzero(candidates)), by_file)


def takes_all(quota: Quota) -> bool:
    """Whether the quota takes every sample that may be picked equally often, so that no order among them matters."""
    return quota.picked == quota.available and quota.samples == quota.picked * quota.repeat


def chosen(mixture: Mixture, source: Source, facts: pl.DataFrame, kept: Bools, quota: Quota, names_of: NamesOf) -> Choice:
    """Which rows of `source` the quota takes; `names_of` gives sample ids of rows, where equal keys ask for them.

    Column pick_bits may be missing where `takes_all` says so.
    """
    candidates = _candidates(mixture, source, facts, kept)
    if takes_all(quota):
        nothing = np.zeros_like(candidates)
        return Choice(candidates.astype(np.int32) * np.int32(quota.repeat), nothing, nothing)
    keys = pick_keys(facts["pick_bits"].to_numpy(), source.name, mixture.seed)
    units = unit_codes(facts) if mixture.cap_unit == "annotation_file" and quota.cap is not None else None
    return choose(keys, candidates, units, quota, names_of)


def _candidates(mixture: Mixture, source: Source, facts: pl.DataFrame, kept: Bools) -> Bools:
    conditions = mixture.conditions(source.name, source.category)
    return kept & passing(facts, conditions) if conditions else kept


def left_out(mixture: Mixture, source: Source, facts: pl.DataFrame, kept: Bools, choice: Choice) -> pl.DataFrame:
    """Columns sample_id, reason, detail for the kept rows that the mixture does not take."""
    kept_facts = facts.filter(kept)
    failed = failures(kept_facts, mixture.conditions(source.name, source.category))
    parts = [failed.with_columns(reason=pl.lit(DropReason.FILTERED.value))]
    for mask, reason in ((choice.over_cap, DropReason.OVER_CAP), (choice.over_quota, DropReason.OVER_QUOTA)):
        rows = facts.filter(mask).select("sample_id", detail=pl.lit(None, pl.String), reason=pl.lit(reason.value))
        parts.append(rows)
    return pl.concat(parts).select("sample_id", "reason", "detail")
