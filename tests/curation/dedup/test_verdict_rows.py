import numpy as np
import polars as pl

from curation.dedup.keepers import CONFLICTING, KEPT, NEAR
from curation.dedup.pair_rule import EXACT, NOT_COMPARED, Items, Outcome
from curation.dedup.verdict_rows import Measured, conflicts, removed_turns, sample_decisions, similarity_text, verdict_rows
from curation.mixture.dedup import DedupSpec
from curation.tables import FINDINGS, REMOVED_TURNS, VERDICTS

SAMPLES = pl.DataFrame(
    {"sample_id": ["e", "d", "c", "b", "a"], "source": ["s"] * 5, "reason": [None, None, None, None, "no_words"]}
)
TURNS = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, -1), (4, -1)]
"""Sample and turn of each item."""


def items() -> Items:
    sample, turn = (np.array(column) for column in zip(*TURNS, strict=True))
    keys = np.ones(len(TURNS), np.uint64)
    questions = np.array([1, 2, 1, 2, 1, 3, 4, 5], np.uint64)
    return Items(sample, turn, keys, keys, questions, keys, keys, SAMPLES["reason"].is_null().to_numpy()[sample])


def outcome(*decisions: tuple[int, int]) -> Outcome:
    state, keeper = (np.array(column) for column in zip(*decisions, (NOT_COMPARED, -1), strict=True))
    return Outcome(state.astype(np.uint8), keeper)


def rows(decided: Outcome, **settings: object) -> list[tuple]:
    decisions = sample_decisions(items(), decided, len(SAMPLES))
    measured = Measured(np.array([6], np.uint32), np.array([[0.8, -1, 0.9, 0.75]], np.float32), np.arange(8, dtype=np.uint32))
    spec = DedupSpec.model_validate(settings)
    found = verdict_rows(SAMPLES, np.arange(5)[::-1], decisions, items(), measured, spec)
    assert found.columns == VERDICTS.names
    return found.select("sample_id", "verdict", "reason", "twin_id").rows()


K = (KEPT, -1)


def test_samples_go_when_all_their_turns_go():
    found = rows(outcome(K, K, (EXACT, 0), (EXACT, 1), (EXACT, 0), K, (NEAR, 0)))
    assert found == [
        ("a", "drop", "no_words", None),
        ("b", "drop", "near_duplicate", "e"),
        ("c", "keep", None, None),
        ("d", "drop", "exact_duplicate", "e"),
        ("e", "keep", None, None),
    ]


def test_turns_said_in_several_samples_are_told_as_such():
    found = {row[0]: row[2] for row in rows(outcome(K, K, (EXACT, 0), (EXACT, 5), (EXACT, 0), K, K))}
    assert found["d"] == "repeated_turns"


def test_conflicts_may_leave_no_twin():
    found = rows(outcome(K, K, K, K, (CONFLICTING, -1), (CONFLICTING, -1), K), conflicts="drop_all")
    assert ("c", "drop", "conflicting_answer", None) in found


def test_turns_that_leave_are_listed_with_those_that_stay():
    decided = outcome(K, K, K, (NEAR, 1), (EXACT, 0), K, K)
    found = removed_turns(SAMPLES, items(), decided, sample_decisions(items(), decided, 5))
    assert found.columns == REMOVED_TURNS.names
    assert found.rows() == [("c", "s", 0, "e", 0), ("d", "s", 1, "e", 1)]


def test_kept_samples_that_contradict_each_other_share_a_cluster():
    found = conflicts(SAMPLES, items(), outcome(K, K, K, K, (EXACT, 0), K, K), DedupSpec())
    assert found.columns == FINDINGS.names
    assert found.select("sample_id", "cluster_id").rows() == [("d", "d"), ("e", "d")]
    assert conflicts(SAMPLES, items(), outcome(*[K] * 7), DedupSpec(key="question")).is_empty()


def test_similarities_are_told_but_for_what_neither_has():
    assert similarity_text([0.8, -1, 0.9, 0.75]) == "Jaccard 0.80 (questions 0.90, answers 0.75)"
