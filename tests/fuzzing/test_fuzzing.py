"""Readers against damaged input: what fuzzing found once, and a few hundred fresh mutations that are the same in every run."""

import random
import warnings
from pathlib import Path

import pytest

from tests.fuzzing.readers import READERS

FOUND = sorted((Path(__file__).parent / "found").glob("*.bin"))
MUTATIONS = {"guess": 12, "webdataset": 60}
"""Fresh mutations a reader, where not 100."""
_TELLING = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b",",
    b"\n",
    b"\xed\xa0\x80",
    b"../",
    b"NaN",
    b"-1",
    b"9" * 12,
)


@pytest.fixture(autouse=True)
def _silence():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders warn of what they are about to refuse
        yield


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_fuzzing_found_stays_mended(path: Path, tmp_path: Path):
    READERS[path.name.partition("-")[0]].feed(path.read_bytes(), tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_refused_with_a_reason(name: str, tmp_path: Path):
    reader = READERS[name]
    for seed in reader.seeds:
        reader.feed(seed, tmp_path)
    chance = random.Random(f"fuzzing {name}")
    for _ in range(MUTATIONS.get(name, 100)):
        reader.feed(mutated(chance, chance.choice(reader.seeds), chance.choice(reader.seeds)), tmp_path)


def mutated(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """`data` with one to four things done to it: bits flipped, bytes cut, doubled, put in, or taken from `other`."""
    whole = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(whole) + 1)
        length = min(chance.choice((1, 2, 4, 16, 256)), len(whole) - place)
        kind = chance.randrange(6)
        if kind == 0 and place < len(whole):
            whole[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del whole[place : place + length]
        elif kind == 2:
            whole[place:place] = whole[place : place + length]
        elif kind == 3:
            whole[place : place + length] = chance.choice(_TELLING)
        elif kind == 4:
            start = chance.randrange(len(other) + 1)
            whole[place:place] = other[start : start + 64]
        else:
            del whole[place:]
    return bytes(whole)
