"""Pictures to compare: drawn ones and copies of them as the web makes them."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.dedup.near_image import Thumbnails
from curation.imaging import examine


def scene(number: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """A colourful picture full of detail, as a photograph is, unlike those of other numbers."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = Image.fromarray(rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(coarse, fine, 0.4)


def saved(image: Image.Image, encoding: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def thumbnails(*images: Image.Image) -> Thumbnails:
    packed: list[npt.NDArray[np.uint8]] = []
    aspects: list[float] = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        facts = examine(buffer.getvalue(), max_pixels=10**8)
        packed.append(np.frombuffer(facts.thumbnail, np.uint8))
        aspects.append(facts.aspect)
    return Thumbnails(np.stack(packed), np.array(aspects, np.float32))
