import collections
import gc
import itertools
import pickle

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.support.releases import TinySample, numbered_samples, png_bytes, write_release
from training.errors import ConfigError, SampleError, StreamError
from training.stream import MixtureStream, ShardStream, merge_states

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata 0.11 with torch 2.13
]

ALL_IDS = [f"s{number:06d}" for number in range(103)]


def ids(samples):
    return [sample["id"] for sample in samples]


def batch_ids(batches):
    return [[sample["id"] for sample in batch] for batch in batches]


def loader(stream, kind=DataLoader, **options):
    return kind(stream, collate_fn=list, **options)


def take(stream, count):
    return ids(itertools.islice(stream, count))


@given(world_size=st.integers(1, 5), epoch=st.integers(0, 3), shuffle=st.sampled_from([True, False, "full"]))
@settings(max_examples=20, deadline=None)
def test_every_sample_once_over_all_ranks(release, world_size, epoch, shuffle):
    by_rank = []
    for rank in range(world_size):
        stream = ShardStream(release, rank=rank, world_size=world_size, shuffle=shuffle, window=16)
        stream.set_epoch(epoch)
        by_rank.append(ids(stream))
        assert len(by_rank[-1]) == len(stream)
    assert sorted(itertools.chain(*by_rank)) == ALL_IDS
    alone = ShardStream(release, shuffle=shuffle, window=16)
    alone.set_epoch(epoch)
    interleaved = [sample for row in itertools.zip_longest(*by_rank) for sample in row if sample]
    assert interleaved == ids(alone)


def test_file_order_is_the_order_of_the_shards(release):
    assert ids(ShardStream(release, shuffle=False)) == ALL_IDS


def test_epochs_differ_and_repeat(release):
    stream = ShardStream(release, seed=3)
    first = ids(stream)
    assert ids(stream) == first
    stream.set_epoch(1)
    assert ids(stream) != first
    stream.set_epoch(0)
    assert ids(stream) == first
    assert ids(ShardStream(release, seed=4)) != first


def test_several_releases_are_one_stream(tmp_path, release):
    other = write_release(tmp_path / "other", [TinySample(sample_id=f"t{n}") for n in range(9)], name="other")
    assert sorted(ids(ShardStream([release, other]))) == sorted([*ALL_IDS, *(f"t{n}" for n in range(9))])


@given(
    before=st.integers(1, 4), after=st.integers(1, 4), steps=st.integers(0, 30), epoch=st.integers(0, 2), shuffle=st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_resuming_delivers_exactly_the_rest(release, before, after, steps, epoch, shuffle):
    delivered, states = [], []
    for rank in range(before):
        stream = ShardStream(release, rank=rank, world_size=before, shuffle=shuffle, window=16)
        stream.set_epoch(epoch)
        delivered += take(stream, min(steps, len(stream)))
        states.append(stream.state_dict())
    for state in [states[0], merge_states(states)]:
        rest = []
        for rank in range(after):
            stream = ShardStream(release, rank=rank, world_size=after, shuffle=shuffle, window=16)
            stream.load_state_dict(state)
            rest += ids(stream)
            assert stream.epoch == epoch
        assert sorted(delivered + rest) == ALL_IDS


def test_resuming_keeps_the_order(release):
    stream = ShardStream(release, seed=1)
    whole = ids(stream)
    for cut in (0, 1, 50, 102, 103):
        take(stream, cut)
        resumed = ShardStream(release, seed=1)
        resumed.load_state_dict(stream.state_dict())
        assert ids(resumed) == whole[cut:]
        assert ids(resumed) == whole, "a loaded position serves one iteration"


def test_a_finished_epoch_stays_finished(release):
    stream = ShardStream(release)
    assert len(ids(stream)) == 103
    resumed = ShardStream(release, rank=1, world_size=2)
    resumed.load_state_dict(stream.state_dict())
    assert ids(resumed) == []
    resumed.set_epoch(1)
    assert len(ids(resumed)) == 51


def test_another_epoch_drops_the_loaded_position(release):
    stream = ShardStream(release)
    take(stream, 10)
    resumed = ShardStream(release)
    resumed.load_state_dict(stream.state_dict())
    resumed.set_epoch(0)
    assert resumed.state_dict()["delivered"] == 10
    resumed.set_epoch(1)
    assert len(ids(resumed)) == 103


@pytest.mark.parametrize("change", [{"seed": 1}, {"shuffle": False}, {"window": 7}])
def test_a_state_of_another_order_is_refused(release, change):
    state = ShardStream(release).state_dict()
    with pytest.raises(StreamError, match="the state was saved with"):
        ShardStream(release, **change).load_state_dict(state)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_batches_do_not_depend_on_the_number_of_workers(release, num_workers):
    stream = ShardStream(release, batch_size=8)
    expected = batch_ids(loader(stream, batch_size=8))
    assert batch_ids(loader(stream, batch_size=8, num_workers=num_workers)) == expected


def test_every_sample_once_over_workers_of_any_batch_size(release):
    stream = ShardStream(release, rank=1, world_size=2)
    batches = batch_ids(loader(stream, batch_size=5, num_workers=2))
    assert sorted(itertools.chain(*batches)) == sorted(ids(stream))


def test_persistent_workers_see_the_epoch(release):
    stream = ShardStream(release, batch_size=4)
    loading = loader(stream, batch_size=4, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 2):
        stream.set_epoch(epoch)
        alone = ShardStream(release)
        alone.set_epoch(epoch)
        assert list(itertools.chain(*batch_ids(loading))) == ids(alone)


def test_workers_go_on_from_a_loaded_position_once(release):
    stream = ShardStream(release, batch_size=4)
    whole = ids(stream)
    take(stream, 12)
    resumed = ShardStream(release, batch_size=4)
    resumed.load_state_dict(stream.state_dict())
    loading = loader(resumed, batch_size=4, num_workers=2)
    assert list(itertools.chain(*batch_ids(loading))) == whole[12:]
    assert list(itertools.chain(*batch_ids(loading))) == whole


def test_position_behind_workers_is_refused_but_can_be_counted(release):
    stream = ShardStream(release, batch_size=4)
    loading = iter(loader(stream, batch_size=4, num_workers=2))
    given_out = list(itertools.chain(*batch_ids(itertools.islice(loading, 5))))
    with pytest.raises(StreamError, match="state_after"):
        stream.state_dict()
    resumed = ShardStream(release)
    resumed.load_state_dict(stream.state_after(len(given_out)))
    assert given_out + ids(resumed) == ids(ShardStream(release))
    with pytest.raises(StreamError, match="103 samples left"):
        stream.state_after(104)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stateful_loader_resumes_exactly(release, num_workers):
    def loading():
        return loader(ShardStream(release, batch_size=4), StatefulDataLoader, batch_size=4, num_workers=num_workers)

    first = loading()
    whole = batch_ids(first)
    begun = iter(first)
    head = batch_ids(itertools.islice(begun, 7))
    state = first.state_dict()
    second = loading()
    second.load_state_dict(state)
    assert head + batch_ids(second) == whole


@pytest.mark.parametrize("batch_size", [4, 3])
def test_stateful_loader_states_merge_for_other_numbers(release, batch_size):
    """With the loader's batch size given or not: workers ahead of others are merged exactly."""
    delivered, states = [], []
    for rank in range(2):
        stream = ShardStream(release, rank=rank, world_size=2, batch_size=4)
        loading = loader(stream, StatefulDataLoader, batch_size=batch_size, num_workers=2)
        delivered += itertools.chain(*batch_ids(itertools.islice(loading, 3 + 2 * rank)))
        states.append(loading.state_dict())
    merged = merge_states(states)
    rest = []
    for rank in range(3):
        stream = ShardStream(release, rank=rank, world_size=3)
        stream.load_state_dict(merged)
        rest += itertools.chain(*batch_ids(loader(stream, batch_size=2, num_workers=1)))
    assert sorted(delivered + rest) == ALL_IDS


def test_rank_comes_from_the_environment(release, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert len(ShardStream(release)) == 51
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match="rank is 2 of world size 2"):
        ShardStream(release)


def test_a_stream_can_be_pickled_while_reading(release):
    stream = ShardStream(release, seed=2)
    take(stream, 5)
    assert ids(pickle.loads(pickle.dumps(stream))) == ids(stream)


@pytest.mark.parametrize(
    "options",
    [
        {"decode": "cv2"},
        {"on_error": "ignore"},
        {"shuffle": "rows"},
        {"window": 0},
        {"batch_size": 0},
        {"rank": 3, "world_size": 3},
    ],
)
def test_wrong_options_are_named(release, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        ShardStream(release, **options)


@pytest.fixture
def damaged(tmp_path):
    """Twenty samples; the image of number 7 is not an image."""
    samples = [TinySample(sample_id=f"d{n:02d}", images=(png_bytes(),)) for n in range(20)]
    folder = write_release(tmp_path / "damaged", samples, samples_per_shard=8)
    path = folder / "shards" / "tiny-000000.tar"
    content = path.read_bytes()
    place = content.index(b"d07.png")
    path.write_bytes(content[: place + 512] + b"\0" * 8 + content[place + 520 :])
    return folder


def test_a_bad_sample_stops_the_stream_by_default(damaged):
    with pytest.raises(SampleError, match=r"'tiny-000000.tar'.*'d07.png'"):
        ids(ShardStream(damaged))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_samples_are_skipped_and_counted_on_request(damaged, num_workers, caplog):
    stream = ShardStream(damaged, on_error="skip")
    batches = batch_ids(loader(stream, batch_size=3, num_workers=num_workers))
    assert sorted(itertools.chain(*batches)) == [f"d{n:02d}" for n in range(20) if n != 7]
    assert stream.num_skipped == 1
    assert num_workers or "d07.png" in caplog.text


def test_a_run_of_bad_samples_stops_even_when_skipping(release):
    def refuse(content):
        raise SampleError("no")

    samples = [TinySample(sample_id=f"d{n:03d}", images=(png_bytes(),)) for n in range(120)]
    folder = write_release(release.parent / "all-bad", samples)
    with pytest.raises(StreamError, match="101 samples in a row"):
        ids(ShardStream(folder, decode=refuse, on_error="skip"))


def test_a_shard_cut_after_opening_is_found(tmp_path):
    folder = write_release(tmp_path / "r", numbered_samples(5))
    stream = ShardStream(folder, shuffle=False)
    path = folder / "shards" / "tiny-000000.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StreamError, match="cut since the release was opened"):
        ids(stream)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_webdataset_library_reads_the_same_samples(tmp_path):
    samples = [TinySample(sample_id=f"w{n}", images=(png_bytes(),) * (n % 3)) for n in range(12)]
    folder = write_release(tmp_path / "r", samples, samples_per_shard=5)
    shards = [str(path) for path in sorted((folder / "shards").iterdir())]
    theirs = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    ours = list(ShardStream(folder, shuffle=False, decode=None))
    assert [sample["__key__"] for sample in theirs] == ids(ours)
    gc.collect()  # webdataset leaves shards to the collector: have it warn here and not in another test
    for their, our in zip(theirs, ours, strict=True):
        assert [value for key, value in sorted(their.items()) if key.endswith("png")] == our["images"]


@pytest.fixture
def parts(tmp_path):
    sizes = {"a": 7, "b": 30, "c": 12}
    return {
        name: write_release(tmp_path / name, [TinySample(sample_id=f"{name}{n:02d}") for n in range(size)], name=name)
        for name, size in sizes.items()
    }


def mixture(parts, **options):
    return MixtureStream({parts["a"]: 0.5, parts["b"]: 0.3, parts["c"]: 0.2}, **options)


def test_mixture_keeps_its_shares_at_every_prefix(parts):
    counts = collections.Counter()
    for number, sample_id in enumerate(ids(mixture(parts, num_samples=200)), start=1):
        counts[sample_id[0]] += 1
        for name, share in {"a": 0.5, "b": 0.3, "c": 0.2}.items():
            assert abs(counts[name] - share * number) < 1
    assert len(mixture(parts)) == 49


def test_mixture_repeats_each_release_evenly(parts):
    stream = mixture(parts, num_samples=100)
    counts = collections.Counter()
    for epoch in range(3):
        stream.set_epoch(epoch)
        counts.update(ids(stream))
    for name, size, draws in (("a", 7, 150), ("b", 30, 90), ("c", 12, 60)):
        own = [counts[f"{name}{n:02d}"] for n in range(size)]
        assert sum(own) == draws
        assert max(own) - min(own) <= 1


@given(
    before=st.integers(1, 3),
    after=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 60), min_size=3, max_size=3),
    epoch=st.integers(0, 2),
)
@settings(max_examples=20, deadline=None)
def test_mixture_resumes_exactly_over_ranks(mixture_parts, before, after, cuts, epoch):
    whole = mixture(mixture_parts, num_samples=180)
    whole.set_epoch(epoch)
    delivered, states = [], []
    for rank in range(before):
        stream = mixture(mixture_parts, num_samples=180, rank=rank, world_size=before)
        stream.set_epoch(epoch)
        delivered += take(stream, cuts[rank])
        states.append(stream.state_dict())
    rest = []
    for rank in range(after):
        stream = mixture(mixture_parts, num_samples=180, rank=rank, world_size=after)
        stream.load_state_dict(merge_states(states))
        rest += ids(stream)
    assert collections.Counter(delivered + rest) == collections.Counter(ids(whole))


@pytest.fixture(scope="module")
def mixture_parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    return {
        name: write_release(folder / name, [TinySample(sample_id=f"{name}{n:02d}") for n in range(size)], name=name)
        for name, size in {"a": 7, "b": 30, "c": 12}.items()
    }


def test_mixture_counts_a_state_like_it_reads(parts):
    stream = mixture(parts, num_samples=120, batch_size=4)
    whole = ids(stream)
    resumed = mixture(parts, num_samples=120, batch_size=4)
    resumed.load_state_dict(mixture(parts, num_samples=120, batch_size=4).state_after(72))
    assert list(itertools.chain(*batch_ids(loader(resumed, batch_size=4, num_workers=2)))) == whole[72:]
    resumed.load_state_dict(resumed.state_after(0))


@pytest.mark.parametrize(("weights", "options"), [({}, {}), ({"a": 0.0}, {}), ({"a": 1.0}, {"num_samples": 0})])
def test_wrong_mixtures_are_refused(parts, weights, options):
    with pytest.raises(ConfigError):
        MixtureStream({parts[name]: weight for name, weight in weights.items()}, **options)
