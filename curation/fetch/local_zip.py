"""The entries of a zip whose directory is lost, from the headers before each of them."""

import struct
import zlib
from collections.abc import Iterator
from typing import Protocol

from curation.imaging import MAX_FILE_BYTES

_HEADER = struct.Struct("<4sHHHHHIIIHH")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800


class _Seekable(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...

    def tell(self) -> int: ...


def local_zip_members(file: _Seekable) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each whole entry from the start on, until one is cut, damaged or of a kind that cannot be walked.

    Ends silently there: the caller knows already that the archive is damaged.
    """
    while True:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or header[:4] != b"PK\x03\x04":
            return
        _, _, flags, method, _, _, crc, packed_size, size, name_length, extra_length = _HEADER.unpack(header)
        name = file.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        file.seek(file.tell() + extra_length)
        if (
            flags & (_ENCRYPTED | _SIZES_FOLLOW)
            or method not in (_STORED, _DEFLATED)
            or max(size, packed_size) > MAX_FILE_BYTES
        ):
            return
        packed = file.read(packed_size)
        try:
            data = packed if method == _STORED else zlib.decompressobj(wbits=-15).decompress(packed, size + 1)
        except zlib.error:
            return
        if len(packed) != packed_size or len(data) != size or zlib.crc32(data) != crc:
            return
        if not name.endswith("/"):
            yield name, data
