"""Small JPEG previews of pictures nobody vouches for: size is checked before anything is decoded, and failure is a value."""

import base64
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from curation.imaging import EXTENSIONS, on_white

MAX_SIDE_PX = 220
MAX_SOURCE_BYTES = 32 << 20
MAX_SOURCE_PIXELS = 64_000_000
_QUALITY = 76
_FORMATS = [name for name in EXTENSIONS if name != "MPO"]  # Pillow opens those as JPEG


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A preview: `data_uri` is empty when the picture could not be shown; sizes in pixels, of the preview."""

    data_uri: str
    width: int
    height: int


NO_PREVIEW = Thumbnail("", 0, 0)


def thumbnail(data: bytes) -> Thumbnail:
    """A preview of an encoded picture, at most MAX_SIDE_PX wide and high; NO_PREVIEW when too large or undecodable."""
    if len(data) > MAX_SOURCE_BYTES:
        return NO_PREVIEW
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which matters to no preview
            small = _small(data)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, MemoryError):
        return NO_PREVIEW
    except Image.DecompressionBombError:
        return NO_PREVIEW
    if small is None:
        return NO_PREVIEW
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", *small.size)


def _small(data: bytes) -> Image.Image | None:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        if image.width * image.height > MAX_SOURCE_PIXELS:
            return None
        image.draft("RGB", (2 * MAX_SIDE_PX, 2 * MAX_SIDE_PX))
        image.load()
        shown = _eight_bit(image) if image.mode[0] in "IF" else on_white(image)
        shown.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), reducing_gap=3.0)
        shown.info = image.info  # orientation lives there
        return _plain(ImageOps.exif_transpose(shown))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Deep greys stretched from darkest to lightest; their scale is anybody's guess."""
    values = np.nan_to_num(np.asarray(image, np.float64))
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def _plain(image: Image.Image) -> Image.Image:
    """A copy without metadata, so that none of it reaches the page."""
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    return bare
