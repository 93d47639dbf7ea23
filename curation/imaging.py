"""What a picture's bytes really are: true encoding, size, a hash of what a person would see, and a thumbnail to compare by.

Every picture is decoded once, in full, here; a header alone does not show that the rest is there, and hash and thumbnail are
both made from that one decode. Nothing is decoded before its declared size has been checked, so a small file cannot claim
unbounded memory.
"""

import hashlib
import io
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.thumbnail import thumbnail_of

EXTENSIONS = {
    "PNG": "png", "JPEG": "jpg", "MPO": "jpg", "GIF": "gif", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif",
}  # fmt: skip
_OPENED = [name for name in EXTENSIONS if name != "MPO"]  # a kind of JPEG to Pillow, known once opened
MAX_FILE_BYTES = 256 << 20
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError,
    struct.error,
)  # fmt: skip
"""What Pillow's decoders raise for damaged pictures, found by fuzzing them."""
_LAST_BYTES = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "GIF": b";"}
_TAIL_BYTES = 64
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

Pixels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """`sha256` of the bytes, `pixels` of the decoded picture (hex), `extension` of the true encoding, size in pixels.

    `width` and `height` are as stored; `aspect` (width / height) and `thumbnail` (THUMBNAIL_BYTES) are of the upright picture.
    """

    sha256: str
    pixels: str
    extension: str
    width: int
    height: int
    num_bytes: int
    aspect: float
    thumbnail: bytes = field(repr=False)


def examine(data: bytes, *, max_pixels: int) -> ImageFacts:
    """The facts of a picture. Raises Unusable(image_too_large | truncated_image | unreadable_image)."""
    if len(data) > MAX_FILE_BYTES:
        raise Unusable(RejectReason.IMAGE_TOO_LARGE, f"{len(data)} bytes; the limit is {MAX_FILE_BYTES}")
    image = _open(data)
    encoding = str(image.format)
    width, height = image.size
    if width * height > max_pixels:
        detail = f"{encoding} declares {width} x {height} pixels; the limit is {max_pixels}"
        raise Unusable(RejectReason.IMAGE_TOO_LARGE, detail)
    try:
        image.load()
        shown = _upright(image)
        pixels, thumbnail = _pixel_hash(shown), thumbnail_of(_eight_bits(shown))
    except DECODER_ERRORS as problem:
        raise Unusable(*_undecodable(data, encoding, problem)) from None
    sha256 = hashlib.sha256(data).hexdigest()
    aspect = shown.shape[1] / shown.shape[0]
    return ImageFacts(sha256, pixels, EXTENSIONS[encoding], width, height, len(data), aspect, thumbnail)


def _open(data: bytes) -> Image.Image:
    # Pillow's own bomb check only warns below twice its limit; `examine` compares against the source's limit instead.
    Image.MAX_IMAGE_PIXELS = None
    Image.init()
    try:
        return Image.open(io.BytesIO(data), formats=_OPENED)
    except UnidentifiedImageError:
        detail = f"{len(data)} bytes starting {data[:12]!r} are none of {', '.join(sorted(EXTENSIONS))}"
        raise Unusable(RejectReason.UNREADABLE_IMAGE, detail) from None
    except DECODER_ERRORS as problem:
        raise Unusable(RejectReason.UNREADABLE_IMAGE, f"header cannot be read: {problem}") from None


def _undecodable(data: bytes, encoding: str, problem: Exception) -> tuple[RejectReason, str]:
    ending = _LAST_BYTES.get(encoding)
    is_cut = "truncated" in str(problem).lower() or (ending is not None and ending not in data[-_TAIL_BYTES:])
    reason = RejectReason.TRUNCATED_IMAGE if is_cut else RejectReason.UNREADABLE_IMAGE
    return reason, f"{encoding} of {len(data)} bytes does not decode: {problem}"


def _upright(image: Image.Image) -> Pixels:
    """[H, W] or [H, W, 3] pixels in one block, upright and laid on white.

    Grey pictures have one channel whatever their mode: formulas and scans come as 1-bit, palette, grey or RGB.
    """
    ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image) if image.mode in _DEEP_MODES else _grey_if_grey(_shown_pixels(image))


def _pixel_hash(pixels: Pixels) -> str:
    """Hash of size and pixels: equal for any two files that show the same."""
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape} ".encode())
    digest.update(pixels.data)
    return digest.hexdigest()[:32]


def _eight_bits(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Deeper pixels are scaled to 8 bits by their own range."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    scale = 255 / (high - low) if high > low else 0.0
    scaled: npt.NDArray[np.uint8] = (np.nan_to_num(pixels.astype(np.float64) - low) * scale).astype(np.uint8)
    return scaled


def _shown_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """[H, W] for grey modes, else [H, W, 3]."""
    if image.mode == "P":
        return _palette_pixels(image)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))
    return np.asarray(on_white(image))


def _palette_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Colours are laid on white once in the palette, not once a pixel."""
    image.apply_transparency()
    palette = np.array(image.getpalette("RGBA"), np.uint8).reshape(1, -1, 4)
    colours = np.zeros((256, 3), np.uint8)  # an index beyond a short palette is black
    colours[: palette.shape[1]] = np.asarray(on_white(Image.fromarray(palette, "RGBA")))[0]
    indices = np.asarray(image)
    is_grey = bool((colours == colours[:, :1]).all())
    shown: npt.NDArray[np.uint8] = np.take(colours[:, 0] if is_grey else colours, indices, axis=0)
    return shown


def _grey_if_grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One channel where all three are equal; a few rows tell most colour pictures apart at once."""
    for rows in (pixels[:: max(1, len(pixels) // 8)], pixels):
        if pixels.ndim == 2 or not (np.array_equal(rows[..., 0], rows[..., 1]) and np.array_equal(rows[..., 0], rows[..., 2])):
            return pixels
    return np.ascontiguousarray(pixels[..., 0])


def upright_rgb(data: bytes) -> Image.Image:
    """A picture that `examine` took as RGB, upright and laid on white; deeper grey is scaled to 8 bits."""
    return Image.fromarray(_eight_bits(_upright(_open(data)))).convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """`image` as RGB, its transparent parts laid on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if "A" in image.mode or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")
