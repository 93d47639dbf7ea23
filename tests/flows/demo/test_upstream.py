"""The writers write what they are called after, and a source that runs dry says so."""

import io
import json
import tarfile
import zipfile

import pytest

from curation.errors import RejectReason
from flows.demo.pictures import bomb
from flows.demo.upstream import Upstream, json_array, json_lines, json_object, tar_file, zip_file


def test_records_come_back_from_each_kind_of_json() -> None:
    records = [{"a": 1}, {"b": "中文"}]
    assert json.loads(json_array(records)) == records
    assert [json.loads(line) for line in json_lines(records).splitlines()] == records
    assert json.loads(json_object(zip("xy", records, strict=True))) == dict(zip("xy", records, strict=True))


def test_archives_hold_their_members_and_are_repeatable() -> None:
    members = {"a/b.png": b"1", "c.txt": b"22"}
    assert tar_file(members) == tar_file(members)
    assert zip_file(members) == zip_file(members)
    with tarfile.open(fileobj=io.BytesIO(tar_file(members))) as tar:
        assert tar.getnames() == list(members)
    with zipfile.ZipFile(io.BytesIO(zip_file(members))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == members


def test_ledger_grows_with_the_records() -> None:
    upstream = Upstream("x", seed=0, scale=1)
    upstream.sample({"q": 1}, ["a", "b"])
    upstream.reject(RejectReason.IMAGE_TOO_LARGE, {"q": 2}, {"huge.png": bomb(9, 9)})
    assert (upstream.planted.records, upstream.planted.samples) == (2, 1)
    assert upstream.planted.rejected == {"image_too_large": 1}
    assert len(upstream.mixed()) == 2
    assert upstream.mixed() == []
    assert list(upstream.pictures) == ["huge.png"]


def test_source_that_has_nothing_new_says_so() -> None:
    upstream = Upstream("dice", seed=0, scale=3)
    rolls = {upstream.new_text(lambda rng: str(rng.randint(1, 6)), str) for _ in range(6)}
    assert len(rolls) == 6
    with pytest.raises(ValueError, match="'dice' has no more new items at scale 3"):
        upstream.new_text(lambda rng: str(rng.randint(1, 6)), str)
