import pytest
import torch

from tests.support.releases import demo_samples, numbered_samples, write_release


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """103 text-only samples in 11 shards."""
    folder = tmp_path_factory.mktemp("releases") / "tiny" / "0123abcd"
    return write_release(folder, numbered_samples(103), samples_per_shard=10)


@pytest.fixture(scope="session")
def demo_release(tmp_path_factory):
    """26 samples of several sources, with pictures and without, in 3 shards."""
    return write_release(tmp_path_factory.mktemp("demo") / "r", demo_samples(26), samples_per_shard=10)
