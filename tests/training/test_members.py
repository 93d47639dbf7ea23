import os

import pytest

from tests.support.releases import TinySample, png_bytes, write_release
from training.errors import SampleError
from training.index import open_release
from training.members import HEAD_BYTES, parse_members, read_members

IMAGE = png_bytes(40, 30)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """A shard of samples of every shape, open, and the places of its samples."""
    samples = [
        TinySample(sample_id="none"),
        TinySample(sample_id="one", images=(IMAGE,)),
        TinySample(sample_id="three", images=(IMAGE, png_bytes(), IMAGE)),
        TinySample(sample_id="long", images=(IMAGE,), answer="word " * HEAD_BYTES),
        TinySample(sample_id="long-text", answer="ü" * HEAD_BYTES),
    ]
    release = open_release(write_release(tmp_path_factory.mktemp("members") / "r", samples))
    descriptor = os.open(release.files.local_path(release.shard_path(0)), os.O_RDONLY)
    yield descriptor, list(zip(release.offsets.tolist(), release.num_bytes.tolist(), strict=True))
    os.close(descriptor)


@pytest.mark.parametrize("number", range(5))
def test_reading_at_a_place_gives_what_taking_apart_gives(shard, number):
    descriptor, places = shard
    start, num_bytes = places[number]
    found = read_members(descriptor, start, num_bytes)
    assert found == parse_members(os.pread(descriptor, num_bytes, start), start)
    _, _, contents, starts = found
    for content, at in zip(contents, starts, strict=True):
        assert os.pread(descriptor, len(content), at) == content


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("shift", [-512, 512, 100])
def test_a_place_that_is_off_is_found(shard, number, shift):
    descriptor, places = shard
    start, num_bytes = places[number]
    with pytest.raises(SampleError):
        read_members(descriptor, max(0, start + shift) if number or shift > 0 else 100, num_bytes)


@pytest.mark.parametrize("byte", [0, 124, 130, 520, 1024, 1024 + 124, 1024 + 133, 1024 + 134, 1024 + 150])
def test_a_flipped_bit_in_a_header_or_key_is_found(shard, tmp_path, byte):
    """Wherever a name, size or key is touched, the sample is refused rather than read otherwise."""
    descriptor, places = shard
    start, num_bytes = places[1]
    data = bytearray(os.pread(descriptor, num_bytes, start))
    data[byte] ^= 4
    path = tmp_path / "damaged.tar"
    path.write_bytes(data)
    damaged = os.open(path, os.O_RDONLY)
    with pytest.raises(SampleError):
        read_members(damaged, 0, num_bytes)
    os.close(damaged)


def test_a_shard_that_ends_early_is_found(shard):
    descriptor, places = shard
    start, num_bytes = places[-1]
    with pytest.raises(SampleError, match="cut since the release was opened"):
        read_members(descriptor, start, num_bytes + 10**6)
