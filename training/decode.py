"""From the bytes of one sample in a shard to the sample: tar members, JSON, images. Nothing in the data is executed.

The walk over the members knows plain ustar headers only, because that is what shards are written with, and checks
each of them: an index that points a block too far is found at the first sample. Images are opened by a short list of
decoders (Pillow also knows formats that start other programs) and refused by size before a pixel is decompressed.
"""

import io
import zlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict

from PIL import Image, UnidentifiedImageError

from curation.shard_format import BLOCK_BYTES, decode_sample, member_bytes
from training.errors import SampleError

MAX_IMAGE_PIXELS = 89_478_485
"""Default bound on width * height, Pillow's own: a quarter GiB as RGB."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_CHECKSUM = slice(148, 156)
_BLANK_CHECKSUM_SUM = 8 * ord(" ")

Decode: TypeAlias = Literal["pil"] | Callable[[bytes], Any] | None


class Sample(TypedDict):
    """One training conversation as a stream yields it; `images` as the stream's `decode` makes them."""

    id: str
    source: str
    category: str
    conversations: list[dict[str, str]]
    images: list[Any]
    license: str
    origin: dict[str, Any]


def split_members(data: bytes) -> list[tuple[str, bytes]]:
    """Names and contents of the tar members that `data` consists of. Raises SampleError at the first bad header."""
    members: list[tuple[str, bytes]] = []
    start = 0
    while start < len(data):
        header = data[start : start + BLOCK_BYTES]
        name, num_bytes = _read_header(header, start)
        content = data[start + BLOCK_BYTES : start + BLOCK_BYTES + num_bytes]
        start += member_bytes(num_bytes)
        if start > len(data):
            raise SampleError(f"member '{name}' needs {start:,} bytes, the index gives the sample {len(data):,}")
        members.append((name, content))
    return members


def _byte_sum(block: bytes) -> int:
    """The sum of a block's bytes, as the low half of its Adler-32 holds it: eight times as fast as sum().

    Exact below 65,521, which no header of ASCII names and digits reaches; a larger one is summed in full.
    """
    low = (zlib.adler32(block) & 0xFFFF) - 1
    return low if block.isascii() else sum(block)


def _read_header(header: bytes, start: int) -> tuple[str, int]:
    try:
        checksum = int(header[_CHECKSUM].rstrip(b" \0"), 8)
        num_bytes = int(header[124:136].rstrip(b" \0"), 8)
        name = header[:100].rstrip(b"\0").decode()
    except ValueError as error:
        raise SampleError(f"no tar header {start:,} bytes into the sample; the index is out of step with the shard") from error
    if len(header) != BLOCK_BYTES or _byte_sum(header) - sum(header[_CHECKSUM]) + _BLANK_CHECKSUM_SUM != checksum:
        raise SampleError(
            f"the tar header of '{name}' has a wrong checksum; the shard is damaged: check it with `curate verify`"
        )
    if header[156:157] not in (b"0", b"\0"):
        raise SampleError(f"member '{name}' is not a regular file; expected plain files as `curate build` writes them")
    return name, num_bytes


def read_sample(data: bytes, decode: Decode, *, max_image_pixels: int) -> Sample:
    """The sample whose tar members are `data`. Raises SampleError where anything in it does not fit."""
    members = split_members(data)
    name, payload = members[0]
    key = name.removesuffix(".json")
    if key == name:
        raise SampleError(f"the first member is '{name}'; expected '<sample_id>.json', so the index is out of step")
    try:
        record = decode_sample(payload)
        expected = [f"{key}.{image['name']}" for image in record["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SampleError(f"the JSON of sample '{key}' cannot be read: {error}") from error
    found = [name for name, _ in members[1:]]
    if found != expected:
        raise SampleError(f"sample '{key}' lists the images {expected}, the shard holds {found}")
    return Sample(
        id=record["id"],
        source=record["source"],
        category=record["category"],
        conversations=record["conversations"],
        images=[decode_image(content, decode, name=name, max_image_pixels=max_image_pixels) for name, content in members[1:]],
        license=record.get("license", ""),
        origin=record.get("origin", {}),
    )


def decode_image(content: bytes, decode: Decode, *, name: str, max_image_pixels: int) -> Any:
    """An image as the stream hands it out: RGB for "pil", the bytes for None, what the callable returns otherwise.

    What decoders raise for bad images (OSError, ValueError, SyntaxError) becomes a SampleError.
    """
    if decode is None:
        return content
    if callable(decode):
        try:
            return decode(content)
        except (OSError, ValueError, SyntaxError) as error:
            raise SampleError(f"image '{name}' ({len(content):,} bytes) cannot be decoded: {error}") from error
    return open_rgb(content, name=name, max_image_pixels=max_image_pixels)


def open_rgb(content: bytes, *, name: str, max_image_pixels: int) -> Image.Image:
    """Decompress an image to RGB. Raises SampleError for one that is broken or has over `max_image_pixels` pixels."""
    try:
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            if width * height > max_image_pixels:
                raise SampleError(
                    f"image '{name}' has {width} x {height} pixels; the limit is {max_image_pixels:,}: raise max_image_pixels"
                )
            return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise SampleError(f"image '{name}' ({len(content):,} bytes) is none of {', '.join(IMAGE_FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SampleError(f"image '{name}' ({len(content):,} bytes) cannot be decoded: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip 16-bit greys at 255 and give a white picture
        image = image.point(lambda grey: grey / 256).convert("L")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
