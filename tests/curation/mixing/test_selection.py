import hashlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.spec import Category
from curation.mixing.balance import Quota
from curation.mixing.selection import Choice, Ints, choose, final_verdicts, first, occurrences, pick_keys, stream_order
from curation.tables import copy_id, id_bits, keyed_bits

SEEDS = st.integers(0, 2**63 - 1)


def ids(number: int, source: str = "shapes") -> pl.Series:
    digests = [hashlib.sha256(str(place).encode()).hexdigest()[:24] for place in range(number)]
    return pl.Series([f"{source}-{digest}" for digest in digests], dtype=pl.String)


def quota(samples: int, *, available: int = 20, offered: int | None = None, cap: int | None = None) -> Quota:
    offered = available if offered is None else offered
    return Quota(
        source="shapes",
        category=Category.OCR,
        available=available,
        offered=offered,
        picked=min(offered, samples),
        samples=samples,
        cap=cap,
    )


def taken(names: pl.Series, of: Quota, seed: int, units: Sequence[int] | None = None, source: str = "shapes") -> Choice:
    keys = pick_keys(id_bits(names), source, seed)
    numbers = None if units is None else np.array(units, np.int64)
    return choose(keys, np.ones(len(names), np.bool_), numbers, of, lambda rows: names.gather(rows).to_list())


def times_of(names: pl.Series, choice: Choice) -> dict[str, int]:
    """How often each sample that is taken appears."""
    return {name: times for name, times in zip(names.to_list(), choice.times.tolist(), strict=True) if times}


def order(names: Sequence[str], seed: int, source: str = "shapes") -> list[str]:
    """The order in which quotas take samples, found the slow and obvious way: by sorting."""
    keys = keyed_bits(id_bits(pl.Series(names, dtype=pl.String)), "pick", seed, source).tolist()
    return [name for _, name in sorted(zip(keys, names, strict=True))]


@given(small=st.integers(0, 60), more=st.integers(0, 60), seed=SEEDS)
def test_a_larger_quota_is_a_superset(small: int, more: int, seed: int):
    names = ids(20)
    fewer, many = (times_of(names, taken(names, quota(samples), seed)) for samples in (small, small + more))
    assert all(times <= many[name] for name, times in fewer.items())


@given(t=st.integers(1, 12), more=st.integers(0, 12), units=st.lists(st.integers(0, 3), min_size=20, max_size=20), seed=SEEDS)
def test_picks_under_a_cap_are_among_those_under_a_larger_one(t: int, more: int, units: list[int], seed: int):
    """The nested law: t = 250k picks are a subset of t = 350k picks, whatever the cap counts by."""
    names = ids(20)
    for by in (None, units):
        picks = []
        for cap in (t, t + more):
            sizes = [20] if by is None else [by.count(unit) for unit in set(by)]
            offered = sum(min(size, cap) for size in sizes)
            picks.append(set(times_of(names, taken(names, quota(offered, offered=offered, cap=cap), seed, by))))
            assert len(picks[-1]) == offered
        assert picks[0] <= picks[1]


@given(samples=st.integers(0, 60), offered=st.integers(1, 20), seed=SEEDS)
def test_a_quota_takes_the_first_of_the_order(samples: int, offered: int, seed: int):
    names = ids(20)
    found = times_of(names, taken(names, quota(samples, offered=offered), seed))
    in_order = order(names.to_list(), seed)[: min(samples, offered)]
    assert set(found) == set(in_order)
    expected = {name: len(range(place, samples, len(in_order))) for place, name in enumerate(in_order)}
    assert found == expected


@given(seed=SEEDS, samples=st.integers(0, 40), shuffle=st.randoms())
def test_picks_do_not_depend_on_the_order_of_samples(seed: int, samples: int, shuffle: random.Random):
    names = ids(20).to_list()
    expected = times_of(ids(20), taken(ids(20), quota(samples), seed))
    shuffle.shuffle(names)
    turned = pl.Series(names)
    assert times_of(turned, taken(turned, quota(samples), seed)) == expected


@given(keys=st.lists(st.integers(0, 3), max_size=12), number=st.integers(0, 14), data=st.data())
def test_equal_keys_are_told_apart_by_name(keys: list[int], number: int, data: st.DataObject):
    among = data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    names = data.draw(st.permutations([f"n{place:02d}" for place in range(len(keys))]))
    found = first(
        np.array(keys, np.uint64), np.array(among, np.bool_), number, lambda rows: [names[row] for row in rows.tolist()]
    )
    ranked = sorted((key, name) for key, name, one in zip(keys, names, among, strict=True) if one)
    assert {names[row] for row in np.flatnonzero(found)} == {name for _, name in ranked[:number]}


def test_names_are_asked_for_only_where_keys_are_equal():
    def never(rows: Ints) -> Sequence[str]:
        raise AssertionError(f"names of {len(rows)} rows were asked for")

    assert first(np.arange(100, dtype=np.uint64), np.ones(100, np.bool_), 30, never).sum() == 30


def test_orders_differ_between_seeds_and_sources():
    picks = [set(times_of(ids(50), taken(ids(50), quota(20, available=50), seed, None, source)))
             for source, seed in (("a", 0), ("a", 1), ("b", 0))]  # fmt: skip
    assert picks[0] != picks[1]
    assert picks[0] != picks[2]


def test_picks_are_spread_evenly():
    names = ids(10)
    first_ones = sum(names[3] in times_of(names, taken(names, quota(1, available=10), seed)) for seed in range(2_000))
    assert 140 < first_ones < 260


@given(times=st.lists(st.integers(0, 4), max_size=9))
def test_occurrences_are_numbered_from_nought(times: list[int]):
    rows, repeats = occurrences(np.array(times, np.int32))
    expected = [(row, repeat) for row, number in enumerate(times) for repeat in range(number)]
    assert list(zip(rows.tolist(), repeats.tolist(), strict=True)) == expected


@given(
    samples=st.integers(0, 60),
    offered=st.integers(0, 20),
    candidates=st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_samples_are_taken_or_left_out_for_one_reason(samples: int, offered: int, candidates: list[bool]):
    names, mask = ids(20), np.array(candidates, np.bool_)
    offered = min(offered, int(mask.sum()))
    of = quota(samples if offered else 0, available=int(mask.sum()), offered=offered)
    found = choose(pick_keys(id_bits(names), "shapes", 1), mask, None, of, lambda rows: names.gather(rows).to_list())
    fates = np.stack([found.times > 0, found.over_cap, found.over_quota, ~mask])
    assert (fates.sum(axis=0) == 1).all()
    assert found.over_cap.sum() == mask.sum() - offered


def places(names: pl.Series, times: int) -> pl.DataFrame:
    rows, repeats = occurrences(np.full(len(names), times, np.int32))
    picked = names.gather(rows)
    return pl.DataFrame({"sample_id": picked, "pick_bits": id_bits(picked), "repeat": repeats})


@given(seed=SEEDS, shuffle=st.randoms())
def test_stream_order_is_a_permutation_independent_of_input_order(seed: int, shuffle: random.Random):
    rows = places(ids(15), 3)
    expected = stream_order(rows, seed)
    assert sorted(expected.iter_rows()) == sorted(rows.iter_rows())
    turned = list(range(len(rows)))
    shuffle.shuffle(turned)
    assert stream_order(rows[turned], seed).equals(expected)


def test_repeats_of_a_sample_are_spread_over_the_stream():
    rows = stream_order(places(ids(200), 2), 0)
    spread = rows.with_row_index().group_by("sample_id").agg(pl.col("index").max() - pl.col("index").min())["index"]
    assert spread.mean() > 50


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
            "detail": [None, None, "same", None],
        }
    )
    left: dict[str, Any] = {"sample_id": names[3:], "reason": ["filtered"], "detail": ["num_tokens is not at most 3: 4"]}
    final = final_verdicts(pool, [pl.DataFrame(left)])
    assert final["stage"].to_list() == ["mix", "clean", "dedup", "mix"]
    assert final["verdict"].to_list() == ["keep", "drop", "drop", "drop"]
    assert final["reason"].to_list() == [None, "no_words", "exact_duplicate", "filtered"]
    assert final["detail"].to_list() == [None, None, "same", "num_tokens is not at most 3: 4"]
