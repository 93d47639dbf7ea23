"""What a release looks like on disk: the one thing that `curation` and `training` both know.

A release folder holds `manifest.json`, `index.parquet` and `shards/*.tar`. A shard is a plain WebDataset tar: for each
sample `<key>.json`, then its images as `<key>.<ext>` (one) or `<key>.<i>.<ext>` (several). `<key>` is the sample_id, with
`-r<k>` behind it from the second occurrence on. This module names things and turns one sample into members and back; it
opens no file and needs the standard library only.
"""

import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA_VERSION = 1
"""Bumped when a reader of the previous layout would misread the new one. Recorded in every release manifest."""

MANIFEST_NAME = "manifest.json"
INDEX_NAME = "index.parquet"
VERDICTS_NAME = "verdicts.parquet"
SHARD_FOLDER = "shards"
IMAGE_MARKER = "<image>"
BLOCK_BYTES = 512

INDEX_COLUMNS = (
    "sample_id", "source", "category", "repeat", "shard", "offset_bytes", "num_bytes", "num_images", "num_tokens",
)  # fmt: skip
"""Columns of `index.parquet`, one row a sample occurrence in stream order.

`shard` is the number of the shard (its place in the manifest's list), `offset_bytes` the first byte of the sample's first
tar header in it, `num_bytes` the length of all its members with headers and padding, `repeat` counts occurrences from 0.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardEntry:
    """One row of the manifest's shard list: `name` relative to the release's `shards` folder."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardImage:
    """An image as a sample's JSON lists it: `name` is the member's name behind `<key>.`."""

    name: str
    width: int
    height: int
    sha256: str


class TarMember(tarfile.TarInfo):
    """What every tar is read with (`tarfile.open(..., tarinfo=TarMember)`): a negative size, which a header of 12 bytes or an
    extended one may state, is refused. Python before its fix of CVE-2025-8194 goes back by it, and reads on for ever."""

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self._size

    @size.setter
    def size(self, value: int) -> None:
        if value < 0:
            raise tarfile.InvalidHeaderError(f"a member of {value} bytes")  # type: ignore[attr-defined]
        self._size = value


def shard_name(mixture: str, number: int) -> str:
    """File name of shard `number` (from 0) of a mixture."""
    return f"{mixture}-{number:06d}.tar"


def occurrence_key(sample_id: str, repeat: int) -> str:
    """The WebDataset key of occurrence `repeat` (from 0) of a sample."""
    return sample_id if repeat == 0 else f"{sample_id}-r{repeat}"


def image_names(extensions: Sequence[str]) -> list[str]:
    """Member names behind `<key>.` for a sample's images, given their true extensions in order."""
    if len(extensions) == 1:
        return [extensions[0]]
    return [f"{number}.{extension}" for number, extension in enumerate(extensions)]


def encode_sample(
    *,
    key: str,
    source: str,
    category: str,
    conversations: Sequence[Mapping[str, str]],
    images: Iterable[ShardImage],
    license: str,  # noqa: A002 - the field's published name
    origin: Mapping[str, Any],
) -> bytes:
    """Bytes of the `<key>.json` member. Keys come in the documented order, so equal samples give equal bytes."""
    record = {
        "id": key,
        "source": source,
        "category": category,
        "conversations": list(conversations),
        "images": [asdict(image) for image in images],
        "license": license,
        "origin": dict(origin),
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def decode_sample(payload: bytes) -> dict[str, Any]:
    """The inverse of `encode_sample`. Raises ValueError when the bytes are not a JSON object of the documented keys."""
    record = json.loads(payload)
    if not isinstance(record, dict):
        raise ValueError(f"a sample must be a JSON object, found {type(record).__name__}")
    missing = {"id", "source", "category", "conversations", "images"} - record.keys()
    if missing:
        raise ValueError(f"sample JSON lacks {', '.join(sorted(missing))}")
    return record


_HEADER = bytearray(BLOCK_BYTES)
_HEADER[100:108] = b"0000644\0"
_HEADER[108:124] = b"0000000\0" * 2
_HEADER[136:148] = b"00000000000\0"
_HEADER[148:156] = b" " * 8
_HEADER[156:157] = b"0"
_HEADER[257:265] = b"ustar\x0000"
_HEADER_SUM = sum(_HEADER)
MAX_NAME_BYTES = 100
MAX_MEMBER_BYTES = 8**11 - 1
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)


def tar_header(name: str, num_bytes: int) -> bytes:
    """A ustar header for a regular file with fixed owner, mode and time, so that equal content gives equal tars.

    Raises ValueError for a name over 100 bytes of UTF-8 or a member of 8 GiB and more, which plain ustar cannot hold.
    """
    encoded = name.encode()
    if len(encoded) > MAX_NAME_BYTES or not 0 <= num_bytes <= MAX_MEMBER_BYTES:
        raise ValueError(f"tar member '{name}' of {num_bytes} bytes does not fit a ustar header")
    header = _HEADER.copy()
    header[: len(encoded)] = encoded
    size = b"%011o\0" % num_bytes
    header[124:136] = size
    header[148:156] = b"%06o\0 " % (_HEADER_SUM + sum(encoded) + sum(size))
    return bytes(header)


def padding_bytes(num_bytes: int) -> int:
    """How many zero bytes follow a member of `num_bytes` to fill its last block."""
    return -num_bytes % BLOCK_BYTES


def member_bytes(num_bytes: int) -> int:
    """Space a member of `num_bytes` takes in a tar: header, content and padding."""
    return BLOCK_BYTES + num_bytes + padding_bytes(num_bytes)
