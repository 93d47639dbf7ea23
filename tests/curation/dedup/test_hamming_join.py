from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.hamming_join import HashTable

MAX_BITS = [0, 5, 6, 8, 10]


def table(hashes: np.ndarray, *, with_look_ups: bool) -> HashTable:
    return HashTable.of(hashes, np.arange(len(hashes), dtype=np.uint32), num_asked=1 << 40 if with_look_ups else 1)


def near(held: HashTable, asked: np.ndarray, max_bits: int) -> list[list[int]]:
    edges, places = held.near(asked, max_bits)
    return [held.hashes[places[first:last]].tolist() for first, last in pairwise(edges)]


def by_looking_at_all(held: np.ndarray, asked: np.ndarray, max_bits: int) -> list[list[int]]:
    found = []
    for one in asked:
        bits = {int(other): int(one ^ other).bit_count() for other in np.unique(held)}
        found.append(sorted((other for other, number in bits.items() if number <= max_bits), key=lambda h: (bits[h], h)))
    return found


def flipped(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Copies of hashes with 0 to 11 bits flipped anywhere."""
    rng = np.random.default_rng(seed)
    copies = hashes.copy()
    for place in range(len(copies)):
        for bit in rng.permutation(64)[: rng.integers(0, 12)]:
            copies[place] ^= np.uint64(1 << int(bit))
    return copies


@pytest.mark.parametrize("max_bits", MAX_BITS)
def test_every_near_hash_is_found_once_nearest_first(max_bits: int):
    held = np.random.default_rng(1).integers(0, 2**64, 300, dtype=np.uint64)
    held = np.concatenate([held, held[:5], flipped(held[:100], 2)])
    asked = np.concatenate([flipped(held[:120], 3), held[:3]])
    expected = by_looking_at_all(held, asked, max_bits)
    assert sum(map(len, expected)) > 3
    for with_look_ups in (False, True):
        assert near(table(held, with_look_ups=with_look_ups), asked, max_bits) == expected


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=10))
@settings(max_examples=60, deadline=None)
def test_a_hash_is_near_exactly_up_to_the_bits_asked_for(value: int, flips: set[int]):
    held = np.array([value], np.uint64)
    asked = held ^ np.uint64(sum(1 << bit for bit in flips))
    assert near(table(held, with_look_ups=False), asked, 8) == ([[value]] if len(flips) <= 8 else [[]])


def test_flips_are_found_wherever_they_lie_in_the_bands():
    rng = np.random.default_rng(5)
    held = rng.integers(0, 2**64, 2_000, dtype=np.uint64)
    asked = held.copy()
    for place in range(len(held)):
        for bit in rng.permutation(64)[:8]:
            asked[place] ^= np.uint64(1 << int(bit))
    found = near(table(held, with_look_ups=True), asked, 8)
    assert all(one in places for one, places in zip(held.tolist(), found, strict=True))


def test_equal_hashes_are_held_once_with_all_who_have_them():
    held = table(np.array([7, 9, 7, 7], np.uint64), with_look_ups=False)
    assert held.hashes.tolist() == [7, 9]
    assert [held.entries[first:last].tolist() for first, last in pairwise(held.edges)] == [
        [0, 2, 3],
        [1],
    ]


def test_nothing_is_near_to_nothing():
    none = np.zeros(0, np.uint64)
    assert near(table(none, with_look_ups=True), np.array([1], np.uint64), 8) == [[]]
    assert near(table(np.array([1], np.uint64), with_look_ups=True), none, 8) == []


def test_a_saved_table_answers_as_before(tmp_path: Path):
    hashes = np.random.default_rng(1).integers(0, 2**64, 50, dtype=np.uint64)
    held = table(hashes, with_look_ups=True)
    held.save(tmp_path / "table")
    assert near(HashTable.load(tmp_path / "table"), hashes, 8) == near(held, hashes, 8)
