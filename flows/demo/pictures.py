"""What every drawn picture has in common: colours, a canvas, encodings, and ways to break a file.

A `Drawing` is a picture with facts that are true of it. The drawers in `charts`, `figures`, `documents` and `scenes` make
drawings; the sources decide which fact becomes a question and how the picture is stored.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS: dict[str, str] = {
    "red": "#d62728",
    "blue": "#1f5fc4",
    "green": "#2c9c3c",
    "yellow": "#f2d02c",
    "orange": "#f58a1f",
    "purple": "#8540a8",
    "black": "#202020",
    "brown": "#7a4a24",
}
COLOUR_NAMES = tuple(COLOURS)
INK = "#1a1a1a"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A question that the picture answers; `wrong` are answers of the same kind that are not true of it."""

    question: str
    answer: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A picture, what is true of it, and `text`: the words written on it or a caption of it, where there is one."""

    image: Image.Image
    facts: tuple[Fact, ...] = ()
    text: str = ""


@lru_cache(maxsize=32)
def font(size_px: int) -> Font:
    """The font that comes with Pillow, so that a picture looks the same wherever it is drawn."""
    return ImageFont.load_default(size_px)


def canvas(rng: Random, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An almost white picture; the shade is drawn, which keeps equal drawings from being equal pixels."""
    shade = (rng.randint(238, 255), rng.randint(238, 255), rng.randint(238, 255))
    image = Image.new("RGB", (width, height), shade)
    return image, ImageDraw.Draw(image)


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, size_px: int = 14, anchor: str = "mm") -> None:
    """Text at a point, by default centred on it."""
    draw.text(at, text, fill=INK, font=font(size_px), anchor=anchor)


def article(word: str) -> str:
    """`an` before a vowel, else `a`."""
    return "an" if word[0] in "aeiou" else "a"


def pick_fact(rng: Random, drawing: Drawing) -> Fact:
    """One of the drawing's facts."""
    return rng.choice(drawing.facts)


def png(image: Image.Image, *, level: int = 6) -> bytes:
    """The picture as PNG; every `level` gives the same pixels in other bytes."""
    return _encoded(image, "PNG", compress_level=level)


def palette_png(image: Image.Image) -> bytes:
    """A PNG of palette mode with exactly the same pixels.

    Raises ValueError when the picture has more than 256 colours.
    """
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.uint32), 2, 0)
    colours, indices = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    if len(colours) > 256:
        raise ValueError(f"a palette holds 256 colours, the picture has {len(colours)}")
    indexed = Image.fromarray(indices.reshape(red.shape).astype(np.uint8))
    indexed.putpalette(b"".join(int(colour).to_bytes(3, "big") for colour in colours))
    return _encoded(indexed, "PNG", compress_level=9)


def jpeg(image: Image.Image, *, quality: int = 90) -> bytes:
    """The picture as JPEG."""
    return _encoded(image, "JPEG", quality=quality)


def webp(image: Image.Image) -> bytes:
    """The picture as lossless WebP: the same pixels as its PNG."""
    return _encoded(image, "WEBP", lossless=True, quality=50, method=2)


def gif(image: Image.Image) -> bytes:
    """The picture as GIF, cut to 64 colours."""
    return _encoded(image.quantize(64, dither=Image.Dither.NONE), "GIF")


def _encoded(image: Image.Image, kind: str, **settings: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def cut(data: bytes) -> bytes:
    """A file whose end got lost: the header is whole, the pixels are not."""
    return data[: len(data) * 55 // 100]


def web_page() -> bytes:
    """What a download leaves behind when the picture is gone: an error page under the picture's name."""
    return b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares `width` x `height` pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", zlib.compress(bytes(3 * 64))), _png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def true_extension(data: bytes) -> str:
    """The extension that the first bytes of a picture file stand for."""
    if data.startswith(b"\x89PNG"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(b"GIF8"):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return ""
