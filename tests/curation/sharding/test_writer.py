import hashlib
import tarfile
from pathlib import Path

import pytest

from curation.errors import ShardError
from curation.sharding.writer import Pictures, write_shard
from tests.support.upstream import write_files


def row(number: int, *pictures: tuple[str, int, int], repeat: int = 0) -> dict:
    listed = [{"name": name, "tar": 0, "offset": offset, "num_bytes": size} for name, offset, size in pictures]
    return {"sample_id": f"s-{number}", "repeat": repeat, "payload": b"{}", "pictures": listed}


@pytest.fixture
def pictures(tmp_path: Path):
    write_files(tmp_path / "source", {"images-00000.tar": b"0123456789"})
    found = Pictures({"s": str(tmp_path / "source")})
    yield found
    found.close()


@pytest.mark.parametrize("buffer_bytes", [512, 1_024, 1_536, 5_000, 1 << 20])
def test_members_are_the_sources_bytes_at_the_places_told(
    tmp_path: Path, pictures: Pictures, buffer_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("curation.sharding.writer._BUFFER_BYTES", buffer_bytes)
    monkeypatch.setattr("curation.sharding.writer._WRITE_BACK_BYTES", buffer_bytes)
    rows = [("s", row(0, ("png", 2, 3))), ("s", row(1)), ("s", row(0, ("0.png", 0, 1), ("1.jpg", 9, 1), repeat=2))]
    path = tmp_path / "shard.tar"
    written = write_shard(path, rows, pictures)
    with tarfile.open(path) as tar:
        found = [(member.name, tar.extractfile(member).read()) for member in tar]
        starts = [member.offset for member in tar.getmembers() if member.name.endswith(".json")]
    assert found == [
        ("s-0.json", b"{}"), ("s-0.png", b"234"), ("s-1.json", b"{}"),
        ("s-0-r2.json", b"{}"), ("s-0-r2.0.png", b"0"), ("s-0-r2.1.jpg", b"9"),
    ]  # fmt: skip
    assert [place for place, _ in written.places] == starts
    assert sum(length for _, length in written.places) == written.num_bytes - 1024 == path.stat().st_size - 1024
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_pictures_that_are_gone_say_what_to_do(tmp_path: Path, pictures: Pictures):
    with pytest.raises(ShardError, match=r"holds 1 of 5 bytes at 9; delete .* and ingest it again"):
        write_shard(tmp_path / "a.tar", [("s", row(0, ("png", 9, 5)))], pictures)
    (tmp_path / "source" / "images-00000.tar").unlink()
    with pytest.raises(ShardError, match="ingest 's' again"):
        write_shard(tmp_path / "a.tar", [("s", row(0, ("png", 0, 5)))], Pictures({"s": str(tmp_path / "source")}))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_told_though_another_thread_writes(pictures: Pictures, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sharding.writer._BUFFER_BYTES", 1_024)
    with pytest.raises(OSError, match="No space left on device"):
        write_shard(Path("/dev/full"), [("s", row(number)) for number in range(20)], pictures)
