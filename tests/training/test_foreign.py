import io
import shutil
import tarfile

import pytest

from tests.support.real_slices import real_slices
from tests.support.releases import png_bytes
from training.errors import StreamError
from training.storage import Storage
from training.stream import MixtureStream, ShardStream, merge_states


def write_tar(path, members, **options):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def captions(first, last):
    for number in range(first, last):
        yield f"part/{number:03d}.txt", f"caption {number}".encode()
        yield f"part/{number:03d}.png", png_bytes(2 + number, 3)
        yield f"part/{number:03d}.json", b'{"number": %d}' % number


@pytest.fixture
def storage(tmp_path):
    return Storage(cache=tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    write_tar(tmp_path / "theirs" / "a.tar", captions(0, 7))
    write_tar(tmp_path / "theirs" / "b.tar", captions(7, 12), format=tarfile.PAX_FORMAT)
    return tmp_path / "theirs"


def test_tars_of_others_are_a_stream(folder, storage):
    samples = list(ShardStream(folder, shuffle=False, storage=storage))
    assert [sample["id"] for sample in samples] == [f"part/{n:03d}" for n in range(12)]
    for number, sample in enumerate(samples):
        assert [image.size for image in sample["images"]] == [(2 + number, 3)]
        assert sample["origin"] == {"txt": f"caption {number}", "json": {"number": number}}


def test_they_resume_and_mix_as_releases_do(folder, storage):
    stream = ShardStream(folder, storage=storage)
    whole = [sample["id"] for sample in stream]
    next(iter(stream))
    resumed = ShardStream(folder, storage=storage)
    resumed.load_state_dict(merge_states([stream.state_dict()]))
    assert [sample["id"] for sample in resumed] == whole[1:]
    assert len(list(MixtureStream({folder / "a.tar": 1, folder / "b.tar": 2}, num_samples=30, storage=storage))) == 30


def test_the_index_is_built_once_and_again_when_a_tar_changes(folder, storage):
    first = ShardStream(folder, storage=storage)
    index = next(storage.cache.glob("tars-*/index.parquet"))
    built = index.stat().st_mtime_ns
    assert len(ShardStream(folder, storage=storage)) == len(first) == 12
    assert index.stat().st_mtime_ns == built
    write_tar(folder / "b.tar", captions(7, 30))
    assert len(ShardStream(folder, storage=storage)) == 30


def test_conversations_are_taken_where_they_are(tmp_path, storage):
    json = b'{"conversations": [{"from": "human", "value": "hi"}]}'
    path = write_tar(tmp_path / "c" / "c.tar", [("x.json", json), ("x.cls", b"3")])
    assert next(iter(ShardStream(path, storage=storage)))["conversations"] == [{"from": "human", "value": "hi"}]


@pytest.mark.parametrize("content", [b"not a tar" * 200, b""])
def test_what_is_no_tar_is_named(tmp_path, storage, content):
    (tmp_path / "bad.tar").write_bytes(content)
    with pytest.raises(StreamError, match=r"bad.tar"):
        ShardStream(tmp_path / "bad.tar", storage=storage)


def test_a_tar_cut_after_it_was_indexed_is_found(folder, storage):
    stream = ShardStream(folder, shuffle=False, storage=storage)
    (folder / "a.tar").write_bytes((folder / "a.tar").read_bytes()[:1500])
    with pytest.raises(StreamError, match=r"a.tar"):
        list(stream)


def test_a_published_tar_of_web_captions(tmp_path, storage):
    copied = shutil.copytree(real_slices() / "cc12m_wds", tmp_path / "cc12m")
    samples = list(ShardStream(copied, storage=storage))
    assert len(samples) == 32
    assert all(len(sample["images"]) == 1 and sample["origin"]["txt"] for sample in samples)
