import hashlib
import random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.balance import Quota
from curation.catalog import Category
from curation.selection import final_verdicts, left_out, occurrences, pick_order, stream_order
from curation.tables import copy_id, id_bits


def ids(number: int, source: str = "shapes") -> pl.Series:
    digests = [hashlib.sha256(str(place).encode()).hexdigest()[:24] for place in range(number)]
    return pl.Series([f"{source}-{digest}" for digest in digests], dtype=pl.String)


def quota(samples: int, *, available: int = 20, offered: int | None = None) -> Quota:
    offered = available if offered is None else offered
    return Quota(
        source="shapes",
        category=Category.OCR,
        available=available,
        offered=offered,
        picked=min(offered, samples),
        samples=samples,
    )


def picked(rows: pl.DataFrame) -> set[str]:
    return set(rows["sample_id"])


@given(small=st.integers(0, 20), more=st.integers(0, 20), seed=st.integers(0, 2**63 - 1))
def test_a_larger_quota_is_a_superset(small: int, more: int, seed: int):
    ordered = pick_order(ids(20), "shapes", seed)
    assert picked(occurrences(ordered, quota(small))) <= picked(occurrences(ordered, quota(min(20, small + more))))


@given(seed=st.integers(0, 2**63 - 1), shuffle=st.randoms())
def test_picks_do_not_depend_on_the_order_of_samples(seed: int, shuffle: random.Random):
    names = ids(20).to_list()
    expected = pick_order(pl.Series(names), "shapes", seed).to_list()
    assert sorted(expected) == sorted(names)
    shuffle.shuffle(names)
    assert pick_order(pl.Series(names), "shapes", seed).to_list() == expected


def test_orders_differ_between_seeds_and_sources():
    orders = [pick_order(ids(50), source, seed).to_list() for source, seed in (("a", 0), ("a", 1), ("b", 0))]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_picks_are_spread_evenly():
    first = sum(pick_order(ids(10), "shapes", seed)[0] == ids(10)[3] for seed in range(2_000))
    assert 140 < first < 260


@given(samples=st.integers(0, 60), offered=st.integers(1, 20))
def test_repeats_are_spread_evenly_and_numbered(samples: int, offered: int):
    rows = occurrences(pick_order(ids(20), "shapes", 1), quota(samples, offered=offered))
    assert len(rows) == samples
    numbers = rows.group_by("sample_id").agg(pl.col("repeat").sort())["repeat"].to_list()
    assert all(row == list(range(len(row))) for row in numbers)
    lengths = [len(row) for row in numbers]
    assert len(lengths) == min(samples, offered)
    assert not lengths or max(lengths) - min(lengths) <= 1


@given(samples=st.integers(0, 60), offered=st.integers(0, 20))
def test_samples_are_taken_or_left_out_for_one_reason(samples: int, offered: int):
    samples = samples if offered else 0
    ordered = pick_order(ids(20), "shapes", 1)
    taken, left = occurrences(ordered, quota(samples, offered=offered)), left_out(ordered, quota(samples, offered=offered))
    assert sorted([*picked(taken), *left["sample_id"]]) == sorted(ids(20))
    assert left.filter(pl.col("reason") == "over_cap").height == 20 - offered


@given(seed=st.integers(0, 2**63 - 1), shuffle=st.randoms())
def test_stream_order_is_a_permutation_independent_of_input_order(seed: int, shuffle: random.Random):
    taken = occurrences(pick_order(ids(20), "shapes", 1), quota(45))
    expected = stream_order(taken, seed)
    assert sorted(expected.iter_rows()) == sorted(taken.iter_rows())
    turned = list(range(len(taken)))
    shuffle.shuffle(turned)
    assert stream_order(taken[turned], seed).equals(expected)


def test_repeats_of_a_sample_are_spread_over_the_stream():
    rows = stream_order(occurrences(pick_order(ids(200), "shapes", 1), quota(400, available=200)), 0)
    places = rows.with_row_index().group_by("sample_id").agg(pl.col("index").max() - pl.col("index").min())["index"]
    assert places.mean() > 50


def test_id_bits_tell_samples_and_copies_apart():
    names = pl.Series([copy_id(name, copy) for name in ids(500) for copy in (0, 1, 12)])
    assert len(set(id_bits(names).tolist())) == len(names)
    assert id_bits(ids(0)).tolist() == []


def test_a_verdict_of_the_mixture_follows_that_of_the_pool():
    names = ids(4).to_list()
    pool = pl.DataFrame(
        {
            "sample_id": names,
            "stage": ["dedup", "clean", "dedup", "dedup"],
            "verdict": ["keep", "drop", "drop", "keep"],
            "reason": [None, "no_words", "exact_duplicate", None],
        }
    )
    final = final_verdicts(pool, [pl.DataFrame({"sample_id": names[3:], "reason": ["over_cap"]})])
    assert final["stage"].to_list() == ["mix", "clean", "dedup", "mix"]
    assert final["verdict"].to_list() == ["keep", "drop", "drop", "drop"]
    assert final["reason"].to_list() == [None, "no_words", "exact_duplicate", "over_cap"]
