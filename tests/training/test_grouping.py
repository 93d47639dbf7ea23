import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.releases import TinySample, png_bytes, write_release
from training.errors import ConfigError
from training.grouping import Grouping
from training.stream import MixtureStream, ShardStream


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """Ninety samples of very different lengths, every third with an image."""
    image = png_bytes()
    samples = [
        TinySample(sample_id=f"v{n:03d}", answer="x" * (n * 37 % 200), images=(image,) if n % 3 == 0 else ()) for n in range(90)
    ]
    return write_release(tmp_path_factory.mktemp("varied") / "r", samples, samples_per_shard=25)


def spread(batches):
    lengths = [[len(sample["conversations"][1]["value"]) for sample in batch] for batch in batches]
    return np.mean([max(batch) - min(batch) for batch in lengths])


def batches_of(stream, size):
    samples = list(stream)
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def test_batches_are_of_like_length_and_one_kind(varied):
    grouped = batches_of(ShardStream(varied, decode=None, group=Grouping(batch=6, batches_a_window=15)), 6)
    plain = batches_of(ShardStream(varied, decode=None), 6)
    assert spread(grouped) < spread(plain) / 4
    assert sum(len({bool(sample["images"]) for sample in batch}) > 1 for batch in grouped) <= 1
    assert sorted(s["id"] for b in grouped for s in b) == sorted(s["id"] for b in plain for s in b)


@given(cut=st.integers(0, 90), world_size=st.integers(1, 3), windows=st.integers(1, 4))
@settings(deadline=None, max_examples=15)
def test_grouped_streams_resume_in_another_world(varied, cut, world_size, windows):
    def make(**options):
        return ShardStream(varied, decode=None, group=Grouping(batch=6, batches_a_window=windows), **options)

    whole = [sample["id"] for sample in make()]
    stream = make()
    list(itertools.islice(stream, cut))
    rest = []
    for rank in range(world_size):
        resumed = make(rank=rank, world_size=world_size)
        resumed.load_state_dict(stream.state_dict())
        rest.append([sample["id"] for sample in resumed])
    assert [one for row in itertools.zip_longest(*rest) for one in row if one] == whole[cut:]


def test_groups_differ_between_epochs(varied):
    stream = ShardStream(varied, decode=None, group=Grouping(batch=6))
    first = [sample["id"] for sample in stream]
    stream.set_epoch(1)
    assert [sample["id"] for sample in stream] != first


def test_wrong_groups_are_refused(varied):
    with pytest.raises(ConfigError, match="batch 0"):
        Grouping(batch=0)
    with pytest.raises(ConfigError, match="no `group`"):
        MixtureStream({varied: 1}, group=Grouping(batch=2))
