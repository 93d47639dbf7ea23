import pickle

import pytest
from torch.utils.data import DataLoader

from tests.support.releases import TinySample, png_bytes, write_release
from training.stream import ShardStream
from training.transport import PlacedBytes

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    samples = [TinySample(sample_id=f"p{n:02d}", images=(png_bytes(3 + n, 5),) * (n % 3)) for n in range(20)]
    return write_release(tmp_path_factory.mktemp("transport") / "r", samples, samples_per_shard=6)


def kinds(samples):
    return [{type(image) for image in sample["images"]} for sample in samples]


def test_bytes_cross_a_queue_as_places_and_arrive_as_bytes(pictures):
    stream = ShardStream(pictures, decode=None, batch_size=4)
    here = list(stream)
    for collate in (list, kinds):
        batches = [one for batch in DataLoader(stream, batch_size=4, num_workers=2, collate_fn=collate) for one in batch]
        if collate is list:
            assert batches == here
            assert {type(image) for sample in batches for image in sample["images"]} == {bytes}
        else:
            assert set().union(*batches) == {PlacedBytes}, "in the worker they know their place"


def test_other_picklers_take_the_bytes(tmp_path):
    placed = PlacedBytes.of(b"content", str(tmp_path / "gone"), 10)
    again = pickle.loads(pickle.dumps(placed))
    assert (again, type(again)) == (b"content", bytes)
