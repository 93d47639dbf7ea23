import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tests.support.releases import TinySample, write_release
from training.errors import ConfigError
from training.packing import PackedStream, first_fit_decreasing, packed_places
from training.stream import MixtureStream, ShardStream, merge_states


@given(lengths=st.lists(st.integers(1, 60), max_size=80), max_tokens=st.integers(1, 50))
def test_packs_hold_every_sample_once_and_no_more_than_fits(lengths, max_tokens):
    packs = first_fit_decreasing(lengths, max_tokens)
    assert sorted(itertools.chain(*packs)) == list(range(len(lengths)))
    for pack in packs:
        assert len(pack) == 1 or sum(lengths[sample] for sample in pack) <= max_tokens
    fitting = [length for length in lengths if length <= max_tokens]
    open_packs = [pack for pack in packs if lengths[pack[0]] <= max_tokens]
    assert sum(2 * sum(lengths[s] for s in pack) <= max_tokens for pack in open_packs) <= 1, "two half-empty packs were one"
    assert len(open_packs) <= 2 * sum(fitting) // max_tokens + 1


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    samples = [TinySample(sample_id=f"v{n:03d}", question="", answer="x" * (1 + n * 37 % 100)) for n in range(90)]
    return write_release(tmp_path_factory.mktemp("packed") / "r", samples, samples_per_shard=25)


def packed(release, **options):
    return PackedStream(ShardStream(release, **options), max_tokens=150, window=30)


def ids(packs):
    return [[sample["id"] for sample in pack] for pack in packs]


def test_packs_are_mostly_full_and_every_sample_comes_once(varied):
    stream = packed(varied)
    packs = list(stream)
    assert len(packs) == len(stream) < 50
    sizes = [sum(len(sample["conversations"][1]["value"]) for sample in pack) for pack in packs]
    assert max(sizes) <= 150
    assert sum(sizes) / (150 * len(sizes)) > 0.9
    assert len({one for pack in ids(packs) for one in pack}) == 90


@given(cut=st.integers(0, 20), world_size=st.integers(1, 3), epoch=st.integers(0, 1))
@settings(deadline=None, max_examples=10)
def test_packs_resume_in_another_world(varied, cut, world_size, epoch):
    first = packed(varied)
    first.set_epoch(epoch)
    whole = ids(first)
    ids(itertools.islice(first, cut))
    rest = []
    for rank in range(world_size):
        stream = packed(varied, rank=rank, world_size=world_size)
        stream.load_state_dict(merge_states([first.state_dict()]))
        rest.append(ids(stream))
    assert [pack for row in itertools.zip_longest(*rest) for pack in row if pack] == (whole[cut:] if cut < len(whole) else [])


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_packs_of_a_mixture_through_workers(varied):
    stream = PackedStream(MixtureStream({varied: 1}, num_samples=120, batch_size=2), max_tokens=150)
    batches = list(DataLoader(stream, batch_size=2, num_workers=2, collate_fn=ids))
    assert list(itertools.chain(*batches)) == ids(stream)
    rows = stream.batch_rows(1, rank=0, world_size=1, batch_size=2)
    assert [row["id"] for row in stream.describe_rows(rows)] == list(itertools.chain(*batches[1]))


def test_packed_places_keep_samples_apart():
    places = packed_places([3, 2], 7)
    assert places.positions_T.tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert places.segments_T.tolist() == [0, 0, 0, 1, 1, -1, -1]
    assert places.edges_N1.tolist() == [0, 3, 5]
    expected = torch.block_diag(torch.ones(3, 3).tril(), torch.ones(2, 2).tril(), torch.zeros(2, 2)).bool()
    assert torch.equal(places.mask_TT(), expected)
    with pytest.raises(ConfigError, match="do not fit"):
        packed_places([5, 3], 7)


def test_wrong_packing_is_refused(varied):
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        PackedStream(ShardStream(varied), max_tokens=0)
    with pytest.raises(ConfigError, match="before it is packed"):
        packed(varied).skip(samples=["v001"])
