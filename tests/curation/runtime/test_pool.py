import io
import os
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.errors import ConfigurationError, SourceError
from curation.mixture.dedup import DedupSpec
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool, Pool, RayPool
from curation.runtime.progress import LineReporter
from curation.runtime.settings import RuntimeSettings
from curation.storage.store import Store
from tests.support.upstream import build, content, encoded, write_world


def doubled(number: int) -> int:
    if number < 0:
        raise SourceError(f"negative: {number}")
    return number * 2


def test_results_come_in_the_order_of_items():
    assert InProcessPool().map(doubled, [3, 1, 2], label="double") == [6, 2, 4]
    assert InProcessPool().map(doubled, [], label="double") == []


def test_the_first_error_is_raised():
    with pytest.raises(SourceError, match="negative: -1"):
        InProcessPool().map(doubled, [1, -1, -2], label="double")


class Counting:
    """Tells how many items it was called with before."""

    def __init__(self) -> None:
        self.calls = -1

    def __call__(self, number: int) -> tuple[int, int]:
        self.calls += 1
        return doubled(number), self.calls


def test_a_function_is_made_once_for_many_items():
    assert InProcessPool().map_with(Counting, [3, 1], label="count") == [(6, 0), (2, 1)]
    assert InProcessPool().map_with(Counting, [], label="count") == []


class WeighingPool(InProcessPool):
    """Notes what Ray would carry: every argument and result of a task as a pickle."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: list[bytes] = []

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], *, label: str) -> list[Any]:
        results = super().map(function, items, label=label)
        self.carried += [pickle.dumps(value) for value in (*items, *results)]
        return results


def test_tasks_carry_paths_and_counts_but_no_pictures(tmp_path: Path):
    catalog = write_world(tmp_path / "upstream")
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
    for path in (tmp_path / "upstream" / "shapes" / "pictures").glob("1?.png"):
        path.write_bytes(encoded(Image.fromarray(noise)))
    pool = WeighingPool()
    build(catalog, Store.open(str(tmp_path / "root")), Mixture(name="all", dedup=DedupSpec(near_images=True)), pool)
    assert max(map(len, pool.carried)) < len(noise.tobytes()) / 2, "no task is given, or gives back, as much as one picture"
    assert not any(b"\x89PNG" in carried for carried in pool.carried)


@pytest.fixture(scope="module")
def ray_pool():
    ray = pytest.importorskip("ray")
    yield RayPool(settings=RuntimeSettings(workers=2))
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_results_errors_and_bytes(ray_pool: Pool, tmp_path: Path):
    assert ray_pool.map(doubled, list(range(20)), label="double") == list(range(0, 40, 2))
    with pytest.raises(SourceError, match="negative: -1"):
        ray_pool.map(doubled, [1, -1], label="double")
    found = ray_pool.map_with(Counting, list(range(20)), label="count")
    assert [number for number, _ in found] == list(range(0, 40, 2))
    assert sorted(calls for _, calls in found) == list(range(20)), "one actor by default, and one function"
    with pytest.raises(SourceError, match="negative: -1"):
        ray_pool.map_with(Counting, [1, -1], label="count")
    catalog = write_world(tmp_path / "upstream")
    mixture = Mixture(name="all", shard_bytes=1 << 14)
    one, other = (
        build(catalog, Store.open(str(tmp_path / name)), mixture, pool)
        for name, pool in (("a", InProcessPool()), ("b", ray_pool))
    )
    assert content(one.folder) == content(other.folder)
    for name, artefact in one.ingested.items():
        assert content(artefact.folder) == content(other.ingested[name].folder)


@pytest.fixture
def graphic_machine():
    """Ray that takes this machine for one of 2 CPUs, 2 GPUs and 3 GiB of memory."""
    ray = pytest.importorskip("ray")
    ray.shutdown()
    ray.init(num_cpus=2, num_gpus=2, _memory=3 << 30, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def where(seconds: float) -> tuple[int, int, list[str]]:
    """How many tasks like this one run at once, and the GPUs that Ray gave."""
    import ray

    time.sleep(seconds)
    usage = ray.available_resources()
    return round(2 - usage.get("CPU", 0)), os.getpid(), [str(gpu) for gpu in ray.get_gpu_ids()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tasks_and_encoders_take_what_the_settings_say(graphic_machine: None):
    def pool(**settings: Any) -> tuple[RayPool, io.StringIO]:
        return RayPool(LineReporter(told := io.StringIO()), RuntimeSettings.model_validate(settings)), told

    both, _ = pool(task={"cpus": 1})
    lean, _ = pool(task={"cpus": 1, "memory": 2 << 30})
    assert max(at_once for at_once, _, _ in both.map(where, [0.3] * 6, label="look")) == 2
    assert {at_once for at_once, _, _ in lean.map(where, [0.3] * 4, label="look")} == {1}, "3 GiB hold one of 2 GiB"

    encoders, told = pool(encoders={"actors": 8, "gpus": 1})
    found = encoders.map_with(lambda: where, [0.3] * 6, label="embed")
    assert {tuple(gpus) for _, _, gpus in found} == {("0",), ("1",)}, "each encoder has a GPU of its own"
    assert len({process for _, process, _ in found}) == 2, "actors that find no room are not waited for"
    assert "embed: room for 2 of 8 encoders" in told.getvalue()

    greedy, _ = pool(encoders={"gpus": 3}, task={"memory": "4GiB"})
    with pytest.raises(ConfigurationError, match=r"`encoders` .* 1 CPUs, 3 GPUs each, .*this machine: 2 CPUs, 3.0 GiB, 2 GPUs"):
        greedy.map_with(lambda: where, [0.0], label="embed")
    with pytest.raises(ConfigurationError, match=r"`task` .* 1 CPUs, 4.0 GiB of memory each, and no machine has that"):
        greedy.map(where, [0.0], label="look")
