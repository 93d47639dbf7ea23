"""From an image's bytes to what a stream hands out. Nothing in the data is executed.

Images are opened by a short list of decoders (Pillow also knows formats that start other programs) and refused by size
before a pixel is decompressed. A consumer that states the side it needs gets JPEGs decoded at 1/2, 1/4 or 1/8 of their size
where that still covers it: a quarter of the pixels is most of a decoder's time saved. "turbo" decodes JPEG by libjpeg-turbo
directly (the extra `turbo`) and leaves everything else, and every JPEG it does not take, to Pillow.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from PIL import Image, UnidentifiedImageError

from training.errors import ConfigError, SampleError

MAX_IMAGE_PIXELS = 89_478_485
"""Default bound on width * height, Pillow's own: a quarter GiB as RGB."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error,
)  # fmt: skip
"""What Pillow's decoders raise for damaged pictures, found by fuzzing them."""
_JPEG_START = b"\xff\xd8\xff"
_TURBO_COLOURS = ("YCbCr", "Gray", "RGB")

Decode: TypeAlias = Literal["pil", "turbo"] | Callable[[bytes], Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDecoder:
    """Makes of an image's bytes what the stream hands out: RGB pictures for "pil" and "turbo", else what `decode` returns.

    `side_px`: the side the consumer will resize to; JPEGs may come smaller than they are, but with no side below it unless
    the original's is. Raises ConfigError for a `decode` that does not exist or is not installed.
    """

    decode: Literal["pil", "turbo"] | Callable[[bytes], Any] = "pil"
    max_image_pixels: int = MAX_IMAGE_PIXELS
    side_px: int | None = None

    def __post_init__(self) -> None:
        if self.decode not in ("pil", "turbo") and not callable(self.decode):
            raise ConfigError(f"decode is {self.decode!r}; expected 'pil', 'turbo', None (bytes) or a function of bytes")
        if self.max_image_pixels < 1 or (self.side_px is not None and self.side_px < 1):
            raise ConfigError(
                f"max_image_pixels is {self.max_image_pixels}, side_px {self.side_px}; expected at least 1 for both"
            )
        if self.decode == "turbo":
            try:
                import simplejpeg  # noqa: F401 - asked for early, in the main process
            except ImportError as error:
                raise ConfigError(f"decode is 'turbo', which needs the extra `turbo` of this package: {error}") from error

    def __call__(self, content: bytes, name: str) -> Any:
        """The decoded image. What decoders raise for bad images (OSError, ValueError, SyntaxError) becomes a SampleError."""
        if callable(self.decode):
            try:
                return self.decode(content)
            except (OSError, ValueError, SyntaxError) as error:
                raise SampleError(f"image '{name}' ({len(content):,} bytes) cannot be decoded: {error}") from error
        if self.decode == "turbo" and content.startswith(_JPEG_START):
            image = _open_turbo(content, name, self.max_image_pixels, self.side_px)
            if image is not None:
                return image
        return open_rgb(content, name=name, max_image_pixels=self.max_image_pixels, side_px=self.side_px)


def open_rgb(content: bytes, *, name: str, max_image_pixels: int, side_px: int | None = None) -> Image.Image:
    """Decompress an image to RGB. Raises SampleError for one that is broken or has over `max_image_pixels` pixels."""
    try:
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            _check_pixels(width, height, name, max_image_pixels)
            if side_px is not None and image.format == "JPEG" and image.mode in ("RGB", "L"):
                image.draft(None, _needed(width, height, side_px))
            return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise SampleError(f"image '{name}' ({len(content):,} bytes) is none of {', '.join(IMAGE_FORMATS)}") from error
    except (Image.DecompressionBombError, *_DECODER_ERRORS) as error:
        raise SampleError(f"image '{name}' ({len(content):,} bytes) cannot be decoded: {error}") from error


def _open_turbo(content: bytes, name: str, max_image_pixels: int, side_px: int | None) -> Image.Image | None:
    """A JPEG by libjpeg-turbo; None for one that is better left to Pillow (CMYK, damaged)."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        _check_pixels(width, height, name, max_image_pixels)
        if colours not in _TURBO_COLOURS:
            return None
        needed_width, needed_height = _needed(width, height, side_px) if side_px is not None else (0, 0)
        pixels = simplejpeg.decode_jpeg(content, "RGB", min_width=needed_width, min_height=needed_height, min_factor=1)
    except ValueError:
        return None
    return Image.fromarray(pixels)


def _check_pixels(width: int, height: int, name: str, max_image_pixels: int) -> None:
    if width * height > max_image_pixels:
        raise SampleError(
            f"image '{name}' has {width} x {height} pixels; the limit is {max_image_pixels:,}: raise max_image_pixels"
        )


def _needed(width: int, height: int, side_px: int) -> tuple[int, int]:
    """The least size of which neither side is below `side_px`; the whole size where one already is."""
    factor = max(side_px / width, side_px / height)
    return (width, height) if factor >= 1 else (max(1, int(width * factor)), max(1, int(height * factor)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip 16-bit greys at 255 and give a white picture
        image = image.point(lambda grey: grey / 256).convert("L")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
