import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest

from curation.tables import content_ids, copy_id, counts_by, id_bits, keyed_bits, mix_bits, record_id

TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)
TURNS = st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=6)


def ids(samples: list[list[str]], images: list[str] | None = None) -> list[str]:
    ends = np.cumsum([0, *map(len, samples)])
    return content_ids("shapes", pa.array([text for said in samples for text in said], pa.string()), ends, images).to_pylist()


@given(samples=TURNS)
def test_ids_are_equal_for_equal_turns_only(samples: list):
    found = ids(samples)
    for left, said in zip(found, samples, strict=True):
        for right, other in zip(found, samples, strict=True):
            assert (left == right) is (said == other)


@given(samples=TURNS, place=st.integers(0, 5))
def test_an_id_does_not_depend_on_its_neighbours(samples: list, place: int):
    if place < len(samples):
        assert ids([samples[place]]) == [ids(samples)[place]]


def test_pictures_are_part_of_an_id():
    turns = [["a", "b"]]
    assert len({ids(turns)[0], ids(turns, ["00" * 32])[0], ids(turns, ["01" * 32])[0], ids(turns, ["00" * 64])[0]}) == 4


@given(samples=TURNS, shown=st.lists(st.sampled_from(["", "00" * 32, "01" * 64]), min_size=6, max_size=6))
def test_an_id_is_the_hash_of_texts_lengths_and_pictures(samples: list, shown: list[str]):
    for images in (None, shown[: len(samples)]):
        expected = []
        for number, said in enumerate(samples):
            texts = [text.encode() for text in said]
            lengths = b"".join(len(text).to_bytes(4, "little") for text in texts)
            expected.append(xxh3_128_hexdigest(b"".join(texts) + lengths + (images[number].encode() if images else b"")))
        assert ids(samples, images) == [f"shapes-{digest[:24]}" for digest in expected]


def test_ids_are_fixed():
    assert ids([["Why?", "So."]])[0] == "shapes-ca21bc6f218d17b222d9bf16"
    assert record_id("shapes", "a/b.json", 3) == "shapes:a/b.json:3"


def test_bits_are_spread_and_fixed():
    names = pl.Series([copy_id(name, copy) for name in ids([[str(number)] for number in range(2_000)]) for copy in (0, 1)])
    bits = id_bits(names)
    assert len(np.unique(bits)) == len(names)
    for key in ("a", "b"):
        shares = np.bincount(keyed_bits(bits, key) >> np.uint64(61), minlength=8) / len(bits)
        assert np.abs(shares - 1 / 8).max() < 0.03
    assert mix_bits(np.array([0, 1], np.uint64)).tolist() == [0, 0x5692161D100B05E5]


def test_counts_are_by_column():
    index = pl.DataFrame(
        {"source": ["a", "b", "a"], "num_images": [1, 0, 2], "num_tokens": [5, 6, 7], "num_bytes": [10, 20, 30]}
    )
    assert counts_by(index, "source") == {
        "a": {"samples": 2, "images": 3, "tokens": 12, "num_bytes": 40},
        "b": {"samples": 1, "images": 0, "tokens": 6, "num_bytes": 20},
    }
