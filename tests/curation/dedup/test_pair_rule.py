import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.keepers import CONFLICTING, KEPT, NO_GROUP, NOBODY, Sweep
from curation.dedup.pair_rule import EXACT, NOT_COMPARED, Items, Outcome, askers, contest, outcome, picture_reuse, preferred
from curation.mixture.dedup import DedupSpec

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 2), st.booleans()), max_size=14)


def items(rows: list[tuple[int, int, int, bool]]) -> Items:
    """Whole samples with these picture, question and answer keys, and whether they take part."""
    pictures, questions, answers, takes_part = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    )
    keys = [np.array(column, np.uint64) for column in (pictures, questions, answers)]
    sample = np.arange(len(rows))
    return Items(sample, np.full(len(rows), -1), keys[0], *keys, np.zeros(len(rows), np.uint64), np.array(takes_part, np.bool_))


def decided(of: Items, rank: np.ndarray, spec: DedupSpec) -> Outcome:
    """The outcome where no texts are near."""
    field = contest(of, rank, spec)
    sweep = Sweep(field.rivals)
    none = np.zeros(0, np.uint32)
    sweep.advance(none, none, len(field.entrants))
    return outcome(of, field, sweep.state, sweep.keeper, spec)


@given(rows=ROWS, order=st.randoms(), conflicts=st.sampled_from(["keep", "prefer", "drop_all"]))
def test_outcomes_are_those_of_the_rule_read_slowly(rows: list, order, conflicts: str):
    rank = list(range(len(rows)))
    order.shuffle(rank)
    found = decided(items(rows), np.array(rank, np.int64), DedupSpec(conflicts=conflicts))
    kept: list[int] = []
    expected: dict[int, tuple[int, int]] = {}
    for row in sorted(range(len(rows)), key=rank.__getitem__):
        picture, question, answer, takes_part = rows[row]
        same = [other for other in kept if rows[other][:3] == (picture, question, answer)]
        rivals = [other for other in kept if rows[other][:2] == (picture, question) and picture]
        if not takes_part:
            expected[row] = (NOT_COMPARED, -1)
        elif same:
            expected[row] = (EXACT, same[0])
        elif rivals and conflicts == "prefer":
            expected[row] = (CONFLICTING, rivals[0])
        else:
            kept.append(row)
            expected[row] = (KEPT, -1)
    if conflicts == "drop_all":
        asked = [rows[row][:2] for row in kept]
        fallen = {row for row in kept if rows[row][0] and asked.count(rows[row][:2]) > 1}
        for row, (_, keeper) in list(expected.items()):
            if row in fallen or keeper in fallen:
                expected[row] = (CONFLICTING, -1)
    assert {row: (int(found.state[row]), int(found.keeper[row])) for row in range(len(rows))} == expected


def test_texts_alone_do_not_contradict_each_other():
    assert askers(items([(0, 1, 1, True), (0, 1, 2, True)]), np.array([0, 1])).tolist() == [NO_GROUP, NO_GROUP]
    assert askers(items([(1, 1, 1, True), (1, 1, 2, True), (2, 1, 1, True)]), np.arange(3)).tolist() == [0, 0, NO_GROUP]


def test_other_pictures_or_numbers_are_other_groups():
    spec, rank = DedupSpec(), np.arange(3)
    of = items([(1, 1, 1, True), (2, 1, 2, True), (1, 2, 1, False)])
    field = contest(of, rank, spec)
    assert field.groups[0] != field.groups[1]
    assert field.groups[0] == field.groups[2]
    assert field.labels.tolist() == [0, 1, NOBODY]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["b-2", "a-2", "a-1", "b-1"]),
        ({"prefer": ["longer_answer"]}, ["a-2", "a-1", "b-1", "b-2"]),
        ({"prefer": []}, ["a-1", "a-2", "b-1", "b-2"]),
        ({"prefer": [], "sources": ["b"]}, ["b-1", "b-2", "a-1", "a-2"]),
        ({"sources": ["b", "a"]}, ["b-2", "b-1", "a-2", "a-1"]),
    ],
)
def test_preference_is_priority_then_the_named_facts_then_the_smaller_id(settings: dict, expected: list[str]):
    samples = pl.DataFrame(
        {
            "sample_id": ["b-2", "a-1", "b-1", "a-2"],
            "source": ["b", "a", "b", "a"],
            "pixels": [100, 50, 50, 50],
            "answer_chars": [5, 10, 10, 20],
        }
    )
    samples = samples.with_columns(place=pl.col("sample_id").rank("ordinal"))
    rank = preferred(samples, DedupSpec.model_validate(settings))
    assert samples.with_columns(rank=rank).sort("rank")["sample_id"].to_list() == expected


def test_pictures_that_several_samples_show_are_counted():
    of = items([(1, 1, 1, True), (1, 2, 1, True), (2, 1, 1, True), (0, 1, 1, True), (0, 2, 1, True)])
    assert picture_reuse(of, decided(of, np.arange(5), DedupSpec())) == {"pictures": 1, "samples": 2}
