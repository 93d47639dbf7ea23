"""From what was decided on items to rows about samples: verdicts, turns that are removed, findings."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.dedup.buckets import Labels
from curation.dedup.exact import STAGE
from curation.dedup.keepers import CONFLICTING, KEPT, NEAR, NO_GROUP
from curation.dedup.look_alikes import NOT_ALIKE, LookAlikes
from curation.dedup.pair_rule import EXACT, NO_PICTURES, Items, Outcome, States, askers
from curation.dedup.similarity import ANSWERS, BOTH_EMPTY, PICTURES, QUESTIONS, REMAINDER, WHOLE, Similarities
from curation.errors import DropReason
from curation.mixture.dedup import LOOK_ALIKE, DedupSpec
from curation.tables import Int64s

_REPEATED, _SEMANTIC = 5, 6
"""Samples whose turns are all said elsewhere, but not all in one sample; and those that only mean the same as their keeper."""

_REASONS = {
    EXACT: DropReason.EXACT_DUPLICATE,
    NEAR: DropReason.NEAR_DUPLICATE,
    CONFLICTING: DropReason.CONFLICTING_ANSWER,
    _REPEATED: DropReason.REPEATED_TURNS,
    _SEMANTIC: DropReason.SEMANTIC_DUPLICATE,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Similarities of entrants to their keepers; `labels` (ascending) are those of the entrants that were dropped as near, and
    `label_of_item` that of every item's entrant."""

    labels: Labels
    similarities: Similarities
    label_of_item: Labels

    def of(self, items: Int64s) -> Similarities:
        """The similarities of `items`, all of which were dropped as near, with their entrant."""
        return self.similarities[np.searchsorted(self.labels, self.label_of_item[items])]


@dataclass(frozen=True, slots=True)
class SampleDecisions:
    """By row of the table of samples: how it was decided (KEPT, EXACT, NEAR, CONFLICTING or repeated), the row of its twin
    (-1 for none), its first item, and how many of its items it has and keeps."""

    state: States
    twin: Int64s
    first_item: Int64s
    num_items: Int64s
    num_kept: Int64s


def sample_decisions(items: Items, decided: Outcome, num_samples: int) -> SampleDecisions:
    """What becomes of each sample: it is dropped when none of its items is kept."""
    first = np.searchsorted(items.sample, np.arange(num_samples + 1))
    num_items = np.diff(first)
    before = np.concatenate([[0], np.cumsum(decided.state == KEPT)])
    num_kept = before[first[1:]] - before[first[:-1]]
    twin_of_item = np.where(decided.keeper >= 0, items.sample[decided.keeper], -1)
    if not num_samples:
        none = np.zeros(0, np.int64)
        return SampleDecisions(np.zeros(0, np.uint8), none, none, none, none)
    starts = first[:-1]
    lowest = np.minimum.reduceat(twin_of_item, starts)
    is_one_twin = (lowest == np.maximum.reduceat(twin_of_item, starts)) & (lowest >= 0)
    by_item = decided.state.astype(np.int64)
    is_exact = np.minimum.reduceat(by_item, starts) == EXACT
    is_near = (np.minimum.reduceat(by_item, starts) == NEAR) | is_exact
    has_conflict = np.logical_or.reduceat(by_item == CONFLICTING, starts)
    state = np.select(
        [num_kept > 0, has_conflict, is_one_twin & is_exact, is_one_twin & is_near], [KEPT, CONFLICTING, EXACT, NEAR], _REPEATED
    )
    twin = np.where(num_kept > 0, -1, twin_of_item[starts])
    return SampleDecisions(state.astype(np.uint8), twin, starts, num_items, num_kept)


def verdict_rows(
    samples: pl.DataFrame,
    rows: Int64s,
    decisions: SampleDecisions,
    items: Items,
    measured: Measured,
    spec: DedupSpec,
    looks: LookAlikes | None = None,
) -> pl.DataFrame:
    """VERDICTS of some rows of `samples` (columns sample_id, source, reason), in that order; `looks` where pictures that look
    alike count as the same."""
    own = samples[rows]
    state, twin = decisions.state[rows], decisions.twin[rows]
    is_clean_drop = own["reason"].is_not_null().to_numpy()
    reasons = np.full(len(rows), None, object)
    reported = _reported(state, decisions.first_item[rows], decisions.num_items[rows], measured)
    for code, dropped_for in _REASONS.items():
        reasons[(reported == code) & ~is_clean_drop] = dropped_for.value
    has_twin = (twin >= 0) & ~is_clean_drop
    twins = samples["sample_id"][np.where(has_twin, twin, 0)].to_frame("twin_id")
    twins = twins.select(pl.when(pl.Series(has_twin)).then("twin_id"))
    reason = pl.Series("reason", reasons.tolist(), pl.String)
    frame = own.select("sample_id", "source", clean_reason="reason").with_columns(
        reason,
        twins["twin_id"],
        pl.Series("detail", _details(rows, decisions, items, measured, spec, looks, is_clean_drop).tolist(), pl.String),
    )
    is_clean = pl.col("clean_reason").is_not_null()
    return frame.select(
        "sample_id",
        "source",
        stage=pl.when(is_clean).then(pl.lit("clean")).otherwise(pl.lit(STAGE)),
        verdict=pl.when(is_clean | pl.col("reason").is_not_null()).then(pl.lit("drop")).otherwise(pl.lit("keep")),
        reason=pl.coalesce("clean_reason", "reason"),
        twin_id="twin_id",
        detail="detail",
    )


def _reported(state: States, first: Int64s, num_items: Int64s, measured: Measured) -> States:
    """`state` of samples, with those that only mean the same as their keeper told apart."""
    reported = state.copy()
    whole = np.flatnonzero((state == NEAR) & (num_items == 1))
    reported[whole[measured.of(first[whole])[:, WHOLE] == BOTH_EMPTY]] = _SEMANTIC
    return reported


def _details(
    rows: Int64s,
    decisions: SampleDecisions,
    items: Items,
    measured: Measured,
    spec: DedupSpec,
    looks: LookAlikes | None,
    is_clean_drop: npt.NDArray[np.bool_],
) -> npt.NDArray[np.object_]:
    details = np.full(len(rows), None, object)
    state, first = decisions.state[rows], decisions.first_item[rows]
    shown = _shown(rows, decisions, items, looks)
    everywhere = "same pixels" if looks is None else "same pictures or on look-alikes"
    said = "question" if spec.key == "question" else "turns"
    is_whole = decisions.num_items[rows] == 1
    for place in np.flatnonzero((state == EXACT) & ~is_clean_drop):
        details[place] = f"same pixels and same normalised {said}"
    near = np.flatnonzero((state == NEAR) & is_whole)
    twins = decisions.first_item[decisions.twin[rows]] if len(rows) else first
    says_same = (items.questions[first] == items.questions[twins]) & (items.answers[first] == items.answers[twins])
    for place, found in zip(near, measured.of(first[near]).tolist(), strict=True):
        has_cosines = found[WHOLE] == BOTH_EMPTY
        how = "same normalised" if says_same[place] else "same meaning of" if has_cosines else "near"
        measures = "" if says_same[place] and not has_cosines else f": {similarity_text(found)}"
        details[place] = f"{shown[place]}, {how} {said}{measures}"
    for place in np.flatnonzero((state == NEAR) & ~is_whole):
        details[place] = (
            f"{shown[place]}, and every one of its {decisions.num_items[rows[place]]} turns is near one of the twin's"
        )
    for place in np.flatnonzero(state == CONFLICTING):
        rule = "the preferred answer is kept" if spec.conflicts == "prefer" else "none of them is kept"
        details[place] = f"same pixels and same question, other answer; {rule}"
    for place in np.flatnonzero(state == _REPEATED):
        details[place] = (
            f"each of its {decisions.num_items[rows[place]]} turns is said elsewhere on the {everywhere}; one twin named"
        )
    removed = decisions.num_items[rows] - decisions.num_kept[rows]
    for place in np.flatnonzero((state == KEPT) & (removed > 0) & ~is_clean_drop):
        details[place] = (
            f"{removed[place]} of its {decisions.num_items[rows[place]]} turns removed: said elsewhere on the {everywhere}"
        )
    return details


def _shown(rows: Int64s, decisions: SampleDecisions, items: Items, looks: LookAlikes | None) -> npt.NDArray[np.object_]:
    """For each of `rows` in words what its pictures and its twin's have in common."""
    shown = np.full(len(rows), "same pixels", object)
    first, twin = decisions.first_item[rows], decisions.twin[rows]
    shown[items.pictures[first] == NO_PICTURES] = "no pictures"
    has_other = np.flatnonzero(twin >= 0)
    has_other = has_other[items.pictures[first[has_other]] != items.pictures[decisions.first_item[twin[has_other]]]]
    if looks is not None:
        bits = looks.differing_bits(rows[has_other], twin[has_other])
        shown[has_other] = [f"{LOOK_ALIKE} (hashes differ in {number} of 64 bits)" for number in bits.tolist()]
        has_other = has_other[bits == NOT_ALIKE]
    shown[has_other] = "pictures mean the same"
    return shown


def similarity_text(found: list[float]) -> str:
    """A pair's similarities in words, by their columns in `similarities`; cosines where it was not compared by n-grams."""
    has_cosines = found[WHOLE] == BOTH_EMPTY
    rest = ("pictures", PICTURES) if has_cosines else ("without boilerplate", REMAINDER)
    parts = (("questions", QUESTIONS), ("answers", ANSWERS), rest)
    inside = ", ".join(f"{name} {found[column]:.2f}" for name, column in parts if found[column] != BOTH_EMPTY)
    return f"cosines {inside}" if has_cosines else f"Jaccard {found[WHOLE]:.2f} ({inside})"


def removed_turns(samples: pl.DataFrame, items: Items, decided: Outcome, decisions: SampleDecisions) -> pl.DataFrame:
    """REMOVED_TURNS: the dropped items of samples that are kept."""
    is_kept = (decisions.num_kept > 0)[items.sample]
    lost = np.flatnonzero(is_kept & (decided.state != KEPT))
    keepers = decided.keeper[lost]
    has_keeper = pl.Series(keepers >= 0)
    own = samples[items.sample[lost]].select("sample_id", "source")
    twins = samples["sample_id"][items.sample[np.maximum(keepers, 0)]]
    return own.with_columns(
        turn=pl.Series(items.turn[lost], dtype=pl.Int32),
        twin_id=pl.when(has_keeper).then(pl.Series(twins)),
        twin_turn=pl.when(has_keeper).then(pl.Series(items.turn[np.maximum(keepers, 0)], dtype=pl.Int32)),
    ).sort("sample_id", "turn")


def conflicts(samples: pl.DataFrame, items: Items, decided: Outcome, spec: DedupSpec) -> pl.DataFrame:
    """FINDINGS: kept samples with the same pictures and question as another kept one, but another answer."""
    kept = np.flatnonzero((decided.state == KEPT) & (spec.key == "conversation"))
    groups = askers(items, kept)
    rows, groups = items.sample[kept[groups != NO_GROUP]], groups[groups != NO_GROUP]
    found = (
        samples[rows].select("sample_id", "source").with_columns(finding=pl.lit("conflicting_answer"), group=pl.Series(groups))
    )
    named: pl.DataFrame = found.with_columns(cluster_id=pl.col("sample_id").min().over("group"))
    return named.select("sample_id", "source", "finding", "cluster_id").unique().sort("cluster_id", "sample_id")
