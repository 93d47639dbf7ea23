"""One sample out of a shard: its tar members, checked against each other, as a record and the bytes of its images.

The usual sample, a JSON and one image, costs two reads and no copy: the first brings the JSON and the image's header, the
second exactly the image. Whatever does not fit is read again whole and taken apart member by member, which either settles
it or says what is wrong.
"""

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from os import pread
from typing import Any, TypeAlias, TypedDict
from zlib import adler32

from orjson import loads

from curation.shard_format import BLOCK_BYTES, member_bytes
from training.errors import SampleError
from training.storage import read_at

HEAD_BYTES = 4_096
"""What the first read asks for: both headers and a JSON of up to 3 KiB, as most are; a longer one is asked for again."""

_REQUIRED = frozenset({"id", "source", "category", "conversations", "images"})
_CHECKSUM = slice(148, 156)
_BLANK_CHECKSUM_SUM = 8 * ord(" ")


class Sample(TypedDict, total=False):
    """One training conversation as a stream yields it; `images` as the stream's `decode` makes them.

    `is_padding` is there, and true, only for a sample that comes a second time under `tail="pad"`.
    """

    id: str
    source: str
    category: str
    conversations: list[dict[str, str]]
    images: list[Any]
    license: str
    origin: dict[str, Any]
    is_padding: bool


Members: TypeAlias = tuple[dict[str, Any], list[str], list[bytes], list[int]]
"""A sample's record, whose `images` still lists names and sizes; its images' names, bytes, and first bytes in the shard."""


def read_members(descriptor: int, start: int, num_bytes: int) -> Members:
    """The sample of `num_bytes` at byte `start` of an open shard. Raises SampleError where anything in it does not fit."""
    head = pread(descriptor, HEAD_BYTES, start)
    try:
        size = int(head[124:135], 8)
        end = 2 * BLOCK_BYTES + size + -size % BLOCK_BYTES
        if end > len(head):
            head = pread(descriptor, end, start)
        record = loads(head[BLOCK_BYTES : BLOCK_BYTES + size])
        key, images, _, _, _ = _required_of(record)
        if head.startswith(f"{key}.json\0".encode()):
            if end - BLOCK_BYTES == num_bytes and images == []:
                return record, [], [], []
            (image,) = images
            name = f"{key}.{image['name']}"
            header = head[end - BLOCK_BYTES : end]
            image_size = int(header[124:135], 8)
            is_named = header.startswith(f"{name}\0".encode())
            if is_named and end + image_size + -image_size % BLOCK_BYTES == num_bytes and _is_sound(header):
                content = pread(descriptor, image_size, start + end)
                if len(content) == image_size:
                    return record, [name], [content], [start + end]
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # several images, or something is wrong: the careful way tells which
    return parse_members(_read_whole(descriptor, start, num_bytes), start)


_required_of = itemgetter("id", "images", "source", "category", "conversations")


def _is_sound(header: bytes) -> bool:
    """Whether a header's checksum holds; a size off by a few bytes shows nowhere else. Large sums are left to others."""
    return adler32(header) & 0xFFFF == _sum_with_field(header[_CHECKSUM])


@lru_cache(maxsize=1 << 14)
def _sum_with_field(field: bytes) -> int:
    """The low half of the Adler-32 of a header whose checksum field is this and holds; few such fields occur."""
    return int(field[:6], 8) - _BLANK_CHECKSUM_SUM + (adler32(field) & 0xFFFF)


def _read_whole(descriptor: int, start: int, num_bytes: int) -> bytes:
    data = read_at(descriptor, start, num_bytes)
    if len(data) != num_bytes:
        raise SampleError(
            f"the shard ends after {len(data):,} of the sample's {num_bytes:,} bytes; it was cut since the release was opened: "
            "restore it or build the release again"
        )
    return data


def parse_members(data: bytes, start: int = 0) -> Members:
    """The sample whose tar members are `data`, from byte `start` of a shard. Raises SampleError where it does not fit."""
    members = split_members(data)
    name, payload, _ = members[0]
    key = name.removesuffix(".json")
    if key == name:
        raise SampleError(f"the first member is '{name}'; expected '<sample_id>.json', so the index is out of step")
    try:
        record = loads(payload)
        if not isinstance(record, dict):
            raise ValueError(f"a sample must be a JSON object, found {type(record).__name__}")
        missing = _REQUIRED - record.keys()
        if missing:
            raise ValueError(f"sample JSON lacks {', '.join(sorted(missing))}")
        expected = [f"{key}.{image['name']}" for image in record["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SampleError(f"the JSON of sample '{key}' cannot be read: {error}") from error
    if record["id"] != key:
        raise SampleError(f"the JSON of sample '{key}' has the id {record['id']!r}; the shard is damaged")
    found = [name for name, _, _ in members[1:]]
    if found != expected:
        raise SampleError(f"sample '{key}' lists the images {expected}, the shard holds {found}")
    return record, found, [content for _, content, _ in members[1:]], [start + at for _, _, at in members[1:]]


def split_members(data: bytes) -> list[tuple[str, bytes, int]]:
    """Name, content and first content byte of the members that `data` consists of. Raises SampleError at a bad header."""
    members: list[tuple[str, bytes, int]] = []
    start = 0
    while start < len(data):
        header = data[start : start + BLOCK_BYTES]
        name, num_bytes = read_header(header, start)
        content = data[start + BLOCK_BYTES : start + BLOCK_BYTES + num_bytes]
        start += member_bytes(num_bytes)
        if start > len(data):
            raise SampleError(f"member '{name}' needs {start:,} bytes, the index gives the sample {len(data):,}")
        members.append((name, content, start - member_bytes(num_bytes) + BLOCK_BYTES))
    if not members:
        raise SampleError("the index gives the sample no bytes; build the release again")
    return members


def _byte_sum(block: bytes) -> int:
    """The sum of a block's bytes, as the low half of its Adler-32 holds it: eight times as fast as sum().

    Exact below 65,521, which no header of ASCII names and digits reaches; a larger one is summed in full.
    """
    low = (adler32(block) & 0xFFFF) - 1
    return low if block.isascii() else sum(block)


def read_header(header: bytes, start: int) -> tuple[str, int]:
    """Name and content size of a plain file's tar header, `start` bytes into something. Raises SampleError."""
    try:
        checksum = int(header[_CHECKSUM].rstrip(b" \0"), 8)
        num_bytes = int(header[124:136].rstrip(b" \0"), 8)
        name = header[:100].rstrip(b"\0").decode()
        if num_bytes < 0:  # "-12" is a number to int(); reading on from before the header would never end
            raise ValueError(f"the size {num_bytes}")
    except ValueError as error:
        raise SampleError(f"no tar header {start:,} bytes into the sample; the index is out of step with the shard") from error
    if len(header) != BLOCK_BYTES or _byte_sum(header) - sum(header[_CHECKSUM]) + _BLANK_CHECKSUM_SUM != checksum:
        raise SampleError(
            f"the tar header of '{name}' has a wrong checksum; the shard is damaged: check it with `curate verify`"
        )
    if header[156:157] not in (b"0", b"\0"):
        raise SampleError(f"member '{name}' is not a regular file; expected plain files as `curate build` writes them")
    return name, num_bytes


def as_sample(members: Members, decode: Callable[[bytes, str], Any] | None) -> Sample:
    """The sample of some members, its images decoded by `decode(content, name)`; None leaves them as they are."""
    record, names, contents, _ = members
    record["images"] = contents if decode is None else list(map(decode, contents, names))
    if "license" not in record or "origin" not in record:  # as others' may be
        record.setdefault("license", "")
        record.setdefault("origin", {})
    return record  # type: ignore[return-value]  # a dict of the documented keys, checked above
