"""What must hold between processes: other set-ups, prefetched batches, uneven ranks, killed workers."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from training.errors import ConfigError, StreamError
from training.stream import MixtureStream, ShardStream, merge_states

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata 0.11 with torch 2.13
]

ALL_IDS = [f"s{number:06d}" for number in range(103)]


def ids(samples):
    return [sample["id"] for sample in samples]


def seats(make, world_size, num_workers, batch_size):
    """The streams of every worker of every rank, as their processes would hold them; no process is started."""
    for rank, worker in itertools.product(range(world_size), range(num_workers)):
        yield make(rank=rank, world_size=world_size, batch_size=batch_size), (worker, num_workers)


def as_worker(monkeypatch, worker, num_workers):
    """Stand in for a DataLoader worker's process."""
    info = SimpleNamespace(id=worker, num_workers=num_workers, seed=7 + worker)
    for module in ("training.ordered", "training.reader"):
        monkeypatch.setattr(f"{module}.get_worker_info", lambda: info)


@pytest.mark.parametrize("kind", ["release", "mixture", "ramp"])
def test_eight_by_two_goes_on_as_three_by_five(release, kind, monkeypatch):
    def make(**options):
        if kind == "release":
            return ShardStream(release, window=16, decode=None, **options)
        schedule = [(0, {release: 1}), (50, {release: 3})] if kind == "ramp" else None
        return MixtureStream({release: 1}, schedule=schedule, window=16, num_samples=250, **options)

    whole = ids(make())
    delivered, states = [], []
    for number, (stream, seat) in enumerate(seats(make, 8, 2, 2)):
        as_worker(monkeypatch, *seat)
        delivered += ids(itertools.islice(stream, number % 5))
        states.append(stream.state_dict())
    merged = merge_states(states)
    rest = []
    for stream, seat in seats(make, 3, 5, 4):
        as_worker(monkeypatch, *seat)
        stream.load_state_dict(merged)
        rest += ids(stream)
    assert sorted(delivered + rest) == sorted(whole)


def test_stateful_loaders_with_batches_in_flight_go_on_in_another_world(release):
    delivered, states = [], []
    for rank in range(2):
        stream = ShardStream(release, rank=rank, world_size=2, batch_size=3)
        loading = StatefulDataLoader(stream, batch_size=3, num_workers=2, prefetch_factor=4, collate_fn=list)
        for batch in itertools.islice(loading, 2 + rank):
            delivered += ids(batch)
        states.append(loading.state_dict())
    alone = ShardStream(release)
    alone.load_state_dict(merge_states(states))
    assert sorted(delivered + ids(alone)) == ALL_IDS


@pytest.mark.parametrize("tail", ["drop", "pad", "even"])
def test_plans_tell_what_ranks_get(release, tail):
    got, plan = [], ShardStream(release, tail=tail, rank=0, world_size=4).plan(batch_size=5)
    for rank in range(4):
        stream = ShardStream(release, tail=tail, rank=rank, world_size=4, batch_size=5)
        samples = list(stream)
        assert len(samples) == len(stream) == plan.samples[rank]
        assert sum("is_padding" in sample for sample in samples) <= (tail == "pad")
        got += ids(sample for sample in samples if "is_padding" not in sample)
    assert len(set(got)) == len(got) == 103 - plan.num_dropped
    assert (plan.num_dropped, plan.num_padded) == {"drop": (3, 0), "pad": (0, 1), "even": (0, 0)}[tail]
    assert plan.is_fair == (tail != "even")


def test_an_unfair_plan_is_refused_with_the_numbers(release):
    stream = ShardStream(release, rank=0, world_size=2)
    with pytest.raises(
        StreamError, match=r"103 samples over 2 ranks.*\[1\] would see 51 batches, the others 52.*1 samples come"
    ):
        stream.plan(batch_size=1).require_fair()
    for tail in ("drop", "pad"):
        ShardStream(release, rank=0, world_size=2, tail=tail).plan(batch_size=1).require_fair()


def test_a_plan_of_what_is_left(release):
    stream = ShardStream(release, rank=0, world_size=2)
    for _ in itertools.islice(stream, 20):
        pass
    resumed = ShardStream(release, rank=0, world_size=3)
    resumed.load_state_dict(stream.state_dict())
    assert resumed.plan(batch_size=4).samples == (21, 21, 21)


@given(world_size=st.integers(1, 4), batch_size=st.integers(1, 5), step=st.integers(0, 4), rank=st.integers(0, 3))
@settings(deadline=None, max_examples=15)
def test_which_names_the_batches_that_come(release, world_size, batch_size, step, rank):
    rank %= world_size
    stream = ShardStream(release, rank=rank, world_size=world_size, seed=5)
    loader = DataLoader(stream, batch_size=batch_size, collate_fn=ids)
    batch = next(itertools.islice(loader, step, None))
    rows = ShardStream(release, seed=5).batch_rows(step, rank=rank, world_size=world_size, batch_size=batch_size)
    assert ids(stream.describe_rows(rows)) == batch


def test_a_step_behind_the_end_is_refused(release):
    with pytest.raises(StreamError, match="rank 0 of 2 has 13 batches of 4"):
        ShardStream(release).batch_rows(13, rank=0, world_size=2, batch_size=4)


@given(skipped=st.sets(st.sampled_from(ALL_IDS), max_size=5), cut=st.integers(0, 40), steps=st.sets(st.integers(3, 9)))
@settings(deadline=None, max_examples=15)
def test_what_is_skipped_does_not_come_on_any_rank(release, skipped, cut, steps):
    first = ShardStream(release, batch_size=4)
    ids(itertools.islice(first, cut))
    first.load_state_dict(first.state_dict())
    first.skip(samples=sorted(skipped), steps=sorted(steps))
    state = first.state_dict()
    whole = ids(ShardStream(release))
    left_out = {*skipped, *(whole[position] for step in steps for position in range(step * 4, step * 4 + 4))}
    rest = []
    for rank in range(2):
        stream = ShardStream(release, rank=rank, world_size=2)
        stream.load_state_dict(state)
        rest.append(ids(stream))
        stream.set_epoch(1)
        assert not skipped & set(ids(stream)), "skipped samples stay away in later epochs"
    together = [one for pair in itertools.zip_longest(*rest) for one in pair if one]
    assert together == [one for one in whole[cut:] if one not in left_out]


@given(cuts=st.lists(st.integers(0, 30), min_size=2, max_size=4).filter(lambda cuts: sum(cuts) <= 51), size=st.integers(1, 2))
@settings(deadline=None, max_examples=20)
def test_states_by_count_follow_one_another_without_workers(release, cuts, size):
    """A state of an iteration that itself went on from one counts from there, not from the beginning of the epoch."""
    ranks = [[] for _ in range(size)]
    state = None
    for cut in (*cuts, None):
        states = []
        for rank in range(size):
            stream = ShardStream(release, batch_size=4, rank=rank, world_size=size)
            if state is not None:
                stream.load_state_dict(state)
            ranks[rank] += ids(itertools.islice(stream, cut))
            states.append(stream.state_after(cut or 0) if cut is not None else None)
        state = merge_states(states) if cut is not None else None
    together = [one for row in itertools.zip_longest(*ranks) for one in row if one]
    assert together == ids(ShardStream(release))


def test_skipping_an_unknown_sample_is_refused(release):
    with pytest.raises(StreamError, match="no sample of this stream has the id nobody"):
        ShardStream(release).skip(samples=["nobody"])


def test_weights_change_at_a_step_on_all_ranks_and_in_states(release, tmp_path):
    (tmp_path / "b.yaml").write_text("name: b\nratios: {general: 1}\n")

    def make(**options):
        return MixtureStream.of_ratios(release, tmp_path / "b.yaml", num_samples=80, batch_size=5, **options)

    first = make(rank=0, world_size=2)
    head = ids(itertools.islice(first, 10))
    stream = make(rank=0, world_size=2)
    stream.load_state_dict(first.state_dict())
    stream.change_weights(tmp_path / "b.yaml", at_step=3)
    assert stream.weights_at(29) == (stream.version, {"general": 1.0})
    assert stream.version.startswith("b.yaml@")
    assert [segment["version"] for segment in stream.state_dict()["order"]["segments"]] == [stream.version] * 2
    with pytest.raises(ConfigError, match="the next step is 2"):
        make_resumed(make, first.state_dict()).change_weights({"general": 2.0}, at_step=1)
    other = make_resumed(make, stream.state_dict())
    assert head + ids(stream) == ids(make(rank=0, world_size=2)), "weights of the same ratio are the same stream"
    assert len(ids(other)) == 30


@given(cut=st.integers(0, 20), before=st.integers(1, 4), after=st.integers(1, 4), later=st.integers(0, 20))
@settings(deadline=None, max_examples=20)
def test_weights_change_alike_for_any_ranks_before_and_after(release, cut, before, after, later):
    """The change comes where `before` ranks stand; `after` ranks take it up, and others the state of these."""

    def streams(size, state=None):
        for rank in range(size):
            stream = MixtureStream({release: 1}, rank=rank, world_size=size, window=16, num_samples=200)
            if state is not None:
                stream.load_state_dict(state)
            yield stream

    def some(size, count, state, change=False):
        """What ranks deliver of it, and the state behind that."""
        taken, states = [], []
        for stream in streams(size, state):
            if change:
                stream.change_weights({release: 3}, version="second")
                assert stream.version == "second"
            taken.append(ids(itertools.islice(stream, count)))
            states.append(stream.state_dict())
        return taken, merge_states(states)

    first, state = some(before, cut, None)
    second, state = some(after, later, state, change=True)
    versions = [segment["version"] for segment in state["order"]["segments"]]
    assert versions == ["", "second"]
    assert state["order"]["segments"][1]["start"] == cut * before
    rest, _ = some(1, None, state)
    parts = [sorted(itertools.chain(*part)) for part in (first, second, rest)]
    (whole,) = (ids(stream) for stream in streams(1))
    assert sorted(itertools.chain(*parts)) == sorted(whole)
    assert parts[0] == sorted(whole[: cut * before])


def make_resumed(make, state):
    stream = make(rank=0, world_size=2)
    stream.load_state_dict(state)
    return stream


def test_a_killed_worker_raises(release):
    """Neither a hang nor a shorter epoch."""
    stream = ShardStream(release, batch_size=2)
    loading = DataLoader(stream, batch_size=2, num_workers=2, collate_fn=list, prefetch_factor=1, timeout=120)
    batches = iter(loading)
    next(batches)
    os.kill(batches._workers[1].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(batches)


def test_uneven_ranks_of_real_processes_do_not_hang(release, tmp_path):
    """Two gloo processes meet at every batch; with tail='drop' both leave the epoch together."""
    script = tmp_path / "rank.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys, torch
        from torch import distributed
        from training.stream import ShardStream
        distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=int(sys.argv[3]), world_size=2)
        stream = ShardStream(sys.argv[1], tail="drop")
        plan = stream.plan(batch_size=1).require_fair()
        steps = 0
        for sample in stream:
            distributed.all_reduce(torch.ones(1))
            steps += 1
        assert steps == plan.batches[0] == 51, steps
        distributed.barrier()
        os._exit(0)
        """)
    )
    arguments = [sys.executable, str(script), str(release), str(tmp_path / "meet")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ranks = [subprocess.Popen([*arguments, str(rank)], env=environment) for rank in range(2)]
    try:
        assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()


def test_nothing_is_left_behind_in_shared_memory(release):
    """A killed job leaves no name in /dev/shm that the next one would stumble over."""
    names = Path("/dev/shm")
    before = set(names.iterdir())
    loading = DataLoader(ShardStream(release, decode=None, batch_size=4), batch_size=4, num_workers=2, collate_fn=list)
    batches = iter(loading)
    next(batches)
    assert [path for path in set(names.iterdir()) - before if "torch" in path.name] == []
    for _ in batches:
        pass
