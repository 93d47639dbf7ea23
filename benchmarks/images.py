"""Signatures of pictures against ImageHash and against the bare decode, and look-alikes found among planted copies.

Ingestion decodes every picture once, in full, to see that it is whole; its thumbnail is made from that decode, so what a
signature costs is what comes on top. ImageHash (optional: pip install ImageHash) decodes for itself.
"""

import io
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from benchmarks.printing import show
from curation.dedup.near_image import LookAlikeRule, Thumbnails, alike_between, perceptual_hashes
from curation.imaging import THUMBNAIL_BYTES, thumbnail_of

PICTURES = 120
SIZE = (800, 600)
ROUNDS = 3


def photograph(number: int) -> Image.Image:
    """A picture with the detail of a photograph, unlike those of other numbers."""
    rng = np.random.default_rng(number)
    layers = [Image.fromarray(rng.integers(0, 256, (*side, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
              for side in ((9, 12), (60, 80), (300, 400))]  # fmt: skip
    return Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.15)


def encoded(image: Image.Image, quality: int = 85) -> bytes:
    """The picture as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def per_second(work: Callable[[], object], number: int) -> float:
    """The best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return number / best


def sign(pictures: Sequence[np.ndarray]) -> None:
    """Thumbnails and hashes of decoded pictures, all that look-alikes need."""
    packed = b"".join(map(thumbnail_of, pictures))
    luma = Thumbnails.of(np.frombuffer(packed, np.uint8).reshape(-1, THUMBNAIL_BYTES), np.ones(len(pictures), np.float32)).luma
    perceptual_hashes(luma)


def scaled_decode(files: Sequence[bytes]) -> None:
    """The smallest decode of a JPEG that still has a thumbnail's cells."""
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("L", (64, 64))
            image.load()


def full_decode(files: Sequence[bytes]) -> None:
    """Every pixel, as ingestion does."""
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            image.load()


def recall(images: Sequence[Image.Image]) -> None:
    """Print which share of planted copies is found, and how many pairs are wrong."""

    def sizes(image: Image.Image, scale: float) -> Image.Image:
        return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)

    copies: dict[str, Callable[[Image.Image], Image.Image]] = {
        "JPEG 30": lambda image: Image.open(io.BytesIO(encoded(image, 30))),
        "half": lambda image: sizes(image, 0.5),
        "double": lambda image: sizes(image, 2),
        "grey": lambda image: image.convert("L"),
        "10% crop": lambda image: image.crop((40, 30, 760, 570)),
    }
    ours = packed(images)
    for name, change in copies.items():
        found = alike_between(ours, packed([change(image) for image in images]), LookAlikeRule())
        right = int((found.left == found.right).sum())
        print(f"look-alikes, {name:<10} found {right / len(images):.3f}, wrong {len(found.left) - right}")


def packed(images: Sequence[Image.Image]) -> Thumbnails:
    """Thumbnails of decoded pictures."""
    rows = np.stack([np.frombuffer(thumbnail_of(np.asarray(image)), np.uint8) for image in images])
    return Thumbnails.of(rows, np.array([image.width / image.height for image in images], np.float32))


def main() -> None:
    """Print the figures."""
    images = [photograph(number) for number in range(PICTURES)]
    files = [encoded(image) for image in images]
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in files]
    ours = per_second(lambda: sign(pixels), PICTURES)
    name = f"signatures of {SIZE[0]} x {SIZE[1]} JPEG"
    show(name, ours, per_second(lambda: scaled_decode(files), PICTURES), "pictures/s", versus="bare scaled decode")
    full = per_second(lambda: full_decode(files), PICTURES)
    show(f"{name}, decode included", 1 / (1 / ours + 1 / full), full, "pictures/s", versus="bare full decode")
    try:
        import imagehash
    except ImportError:
        print("ImageHash is not installed: no comparison with it", file=sys.stderr)
    else:

        def peer() -> None:
            for data in files:
                imagehash.phash(Image.open(io.BytesIO(data)))

        show(name, ours, per_second(peer, PICTURES), "pictures/s", versus="ImageHash phash")
    recall(images[:60])


if __name__ == "__main__":
    main()
