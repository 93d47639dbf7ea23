"""Laws of what runs work with: a release is verified where that is quicker, and found the same."""

from pathlib import Path

import pytest

from curation.runtime.pool import InProcessPool, RayPool
from curation.storage.store import Store, publish
from flows import job


@pytest.mark.parametrize(("num_bytes", "kind"), [(4 << 30, RayPool), ((4 << 30) - 1, InProcessPool)])
def test_workers_verify_what_is_large(num_bytes: int, kind: type, tmp_path: Path):
    folder = tmp_path / "releases" / "some" / "0"
    folder.mkdir(parents=True)
    publish(folder, {"num_bytes": num_bytes})
    with job.verifying_pool(folder, Store(tmp_path)) as pool:
        assert isinstance(pool, kind)


def test_a_release_that_is_not_there_starts_no_workers(tmp_path: Path):
    with job.verifying_pool(tmp_path / "releases" / "none", Store(tmp_path)) as pool:
        assert isinstance(pool, InProcessPool)
