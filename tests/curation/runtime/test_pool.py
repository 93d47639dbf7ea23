from pathlib import Path

import pytest

from curation.errors import SourceError
from curation.mixture import Mixture
from curation.runtime.pool import InProcessPool, Pool, RayPool
from curation.runtime.settings import RuntimeSettings
from curation.store import Store
from tests.support.upstream import build, content, write_world


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
    catalog = write_world(tmp_path / "upstream")
    mixture = Mixture(name="all", shard_bytes=1 << 14)
    one, other = (
        build(catalog, Store.open(str(tmp_path / name)), mixture, pool)
        for name, pool in (("a", InProcessPool()), ("b", ray_pool))
    )
    assert content(one.folder) == content(other.folder)
    for name, artefact in one.ingested.items():
        assert content(artefact.folder) == content(other.ingested[name].folder)
