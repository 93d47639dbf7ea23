import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.shard_format import (
    END_OF_ARCHIVE,
    ShardImage,
    TarMember,
    decode_sample,
    encode_sample,
    image_names,
    member_bytes,
    occurrence_key,
    padding_bytes,
    shard_name,
    tar_header,
)

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20).filter(
    lambda name: name.strip(".")
)


@given(members=st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=4))
def test_tars_read_as_they_were_written(members: list):
    pieces = [tar_header(name, len(data)) + data + bytes(padding_bytes(len(data))) for name, data in members]
    assert [len(piece) for piece in pieces] == [member_bytes(len(data)) for _, data in members]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces) + END_OF_ARCHIVE), mode="r:") as tar:
        assert [(member.name, tar.extractfile(member).read()) for member in tar] == members


def test_headers_are_what_tarfile_writes_in_ustar():
    member = tarfile.TarInfo("a-0.json")
    member.size = 1234
    ours, theirs = tar_header("a-0.json", 1234), member.tobuf(tarfile.USTAR_FORMAT)
    assert (
        tarfile.TarInfo.frombuf(ours, "utf-8", "strict").get_info()
        == tarfile.TarInfo.frombuf(theirs, "utf-8", "strict").get_info()
    )


@pytest.mark.parametrize(("name", "num_bytes"), [("x" * 101, 0), ("é" * 51, 0), ("x", 8**11), ("x", -1)])
def test_what_does_not_fit_a_header_is_refused(name: str, num_bytes: int):
    with pytest.raises(ValueError, match="does not fit"):
        tar_header(name, num_bytes)


def test_names():
    assert shard_name("mix", 7) == "mix-000007.tar"
    assert [occurrence_key("a-0", repeat) for repeat in (0, 1, 12)] == ["a-0", "a-0-r1", "a-0-r12"]
    assert image_names([]) == []
    assert image_names(["png"]) == ["png"]
    assert image_names(["png", "jpg"]) == ["0.png", "1.jpg"]


def test_a_sample_decodes_to_what_was_encoded():
    images = [ShardImage(name="png", width=3, height=2, sha256="ab")]
    turns = [{"from": "human", "value": "<image>\nWhat? 中\u2028"}, {"from": "gpt", "value": "That."}]
    origin = {"file": "a.json", "position": 3, "id": None}
    payload = encode_sample(
        key="a-0", source="a", category="ocr", conversations=turns, images=images, license="MIT", origin=origin
    )
    assert decode_sample(payload) == {
        "id": "a-0", "source": "a", "category": "ocr", "conversations": turns, "license": "MIT", "origin": origin,
        "images": [{"name": "png", "width": 3, "height": 2, "sha256": "ab"}],
    }  # fmt: skip


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"id": "a", "source": "b"}', b"\xff"])
def test_what_is_no_sample_is_refused(payload: bytes):
    with pytest.raises(ValueError):
        decode_sample(payload)


def header(name: str, size: bytes) -> bytes:
    """A tar header with this size field."""
    block = bytearray(tar_header(name, 0))
    block[124:136], block[148:156] = size, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [-1, -512, -1024])
def test_a_negative_size_ends_the_reading(size: int):
    """Python without its fix of CVE-2025-8194 would go round for ever."""
    data = header("good.txt", b"0" * 11 + b"\0") + header("bad.txt", size.to_bytes(12, "big", signed=True)) + END_OF_ARCHIVE
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", tarinfo=TarMember) as tar:
        assert tar.getnames() == ["good.txt"]
    with pytest.raises(tarfile.ReadError, match=f"a member of {size} bytes"):
        tarfile.TarFile(fileobj=io.BytesIO(data[512:]), tarinfo=TarMember)


def test_a_negative_size_in_an_extended_header_ends_the_reading():
    extended = tarfile.TarInfo("bad.txt")
    extended.pax_headers = {"size": "-512"}
    data = header("good.txt", b"0" * 11 + b"\0") + extended.tobuf(tarfile.PAX_FORMAT) + END_OF_ARCHIVE
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", tarinfo=TarMember) as tar:
        assert tar.getnames() == ["good.txt"]
