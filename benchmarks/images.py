"""Signatures of pictures against ImageHash and against the bare scaled decode, and look-alikes found among planted copies.

A signature is a thumbnail and all hashes of its windows and halves. ImageHash makes one hash of 64 bits and nothing to verify
it by, so the time of one such hash is printed too. Both are of files, decoded as small as they may be: the bare scaled decode
bounds them. Ingestion decodes every picture once, in full, to see that it is whole; what a signature adds to that is printed
as well.

ImageHash is optional (pip install ImageHash). imagededup is not run: it needs torchvision, which this project goes without.
Rates are also of real JPEGs, and planted copies of real photographs and charts, where the slices are (CURATION_REAL_DATA, else
shared/data beside the repository); elsewhere all are made up. Last come pairs that must not be merged: cards that differ in a
number.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.printing import show
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.near_image import Thumbnails, alike_between
from curation.dedup.picture_hashes import HASHED_SIDE, WINDOWS, perceptual_hashes
from curation.imaging import examine, on_white
from curation.thumbnail import LUMA_SIDE, thumbnail_of

SIZES = {(512, 384): 240, (800, 600): 120, (1600, 1200): 32}
"""Sizes of JPEGs, and how many of each."""

REAL_SIDES, REAL = ((500, 800), (800, 1600)), 60
REAL_DATA = Path(os.environ.get("CURATION_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
ROUNDS = 7
PLANTED = 100
REPLACED = 360
Pictures = Sequence[Image.Image]


def photograph(number: int, size: tuple[int, int] = (800, 600)) -> Image.Image:
    """A picture with the detail of a photograph, unlike those of other numbers."""
    rng = np.random.default_rng(number)
    layers = [Image.fromarray(rng.integers(0, 256, (*side, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
              for side in ((9, 12), (60, 80), (300, 400))]  # fmt: skip
    return Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.15)


def encoded(image: Image.Image, quality: int = 85) -> bytes:
    """The picture as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def rates(works: Mapping[str, Callable[[], object]], number: int) -> dict[str, float]:
    """Pictures a second of processor time, the best of rounds in which all take turns: a busy machine slows all alike."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return {name: number / seconds for name, seconds in best.items()}


def small(data: bytes, mode: str = "RGB", side: int = LUMA_SIDE) -> Image.Image:
    """The smallest decode of a JPEG that still has a thumbnail's cells, or `side` ones."""
    image = Image.open(io.BytesIO(data))
    image.draft(mode, (side, side))
    image.load()
    return image


def sign(pictures: Iterable[Image.Image]) -> None:
    """Thumbnails, and all hashes of windows and halves: all that look-alikes need."""
    rows = [thumbnail_of(np.asarray(picture)) for picture in pictures]
    thumbnails = np.frombuffer(bytearray().join(rows), np.uint8).reshape(len(rows), -1)
    assert len(Thumbnails(thumbnails, np.ones(len(rows), np.float32)).looks) == len(rows)


def hash_only(files: Sequence[bytes]) -> None:
    """One perceptual hash of each JPEG."""
    side = (HASHED_SIDE, HASHED_SIDE)
    luma = [np.asarray(small(data, "L", HASHED_SIDE).resize(side, Image.Resampling.BILINEAR)) for data in files]
    assert len(perceptual_hashes(np.stack(luma), WINDOWS[:1])) == len(files)


def speed(name: str, files: Sequence[bytes]) -> None:
    """Print the rates for some JPEGs."""
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
    works: dict[str, Callable[[], object]] = {
        "signature": lambda: sign(small(data) for data in files),
        "hash": lambda: hash_only(files),
        "scaled decode": lambda: [small(data) for data in files],
        "examine": lambda: [examine(data, max_pixels=100_000_000) for data in files],
        "full decode": lambda: [Image.open(io.BytesIO(data)).load() for data in files],
        "added": lambda: sign(pictures),
    }
    try:
        import imagehash
    except ImportError:
        print("ImageHash is not installed: no comparison with it", file=sys.stderr)
    else:
        works["ImageHash"] = lambda: [imagehash.phash(Image.open(io.BytesIO(data))) for data in files]
    for work in works.values():  # compile, and warm caches
        work()
    found = rates(works, len(files))
    found["with full decode"] = 1 / (1 / found["added"] + 1 / found["full decode"])
    compared = [
        ("signatures", "signature", "scaled decode", "bare scaled decode"),
        ("signatures, full decode", "with full decode", "full decode", "bare full decode"),
        ("all of ingestion", "examine", "full decode", "bare full decode"),
        ("one hash alone", "hash", "ImageHash", "ImageHash phash"),
        ("signatures", "signature", "ImageHash", "ImageHash phash"),
        ("all of ingestion", "examine", "ImageHash", "ImageHash phash"),
    ]
    for label, ours, other, versus in compared:
        if other in found:
            show(f"{label}, {name}", found[ours], found[other], "pictures/s", versus=versus)


def photographs_of_the_web() -> dict[str, list[bytes]]:
    """JPEGs among the real slices by the length of their longer side, at most REAL of each."""
    found: dict[str, list[bytes]] = {}
    for low, high in REAL_SIDES if REAL_DATA.is_dir() else ():
        files = []
        for path in sorted(path for path in REAL_DATA.rglob("*") if path.suffix in (".jpg", ".jpeg")):
            image = Image.open(path)
            if image.format == "JPEG" and image.mode == "RGB" and low <= max(image.size) < high:
                files.append(path.read_bytes())
        found[f"real, {low} to {high} px"] = files[:: max(1, len(files) // REAL)]
    return found


def scaled(image: Image.Image, scale: float) -> Image.Image:
    """The picture in another size."""
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def cut(image: Image.Image, top: float, bottom: float, left: float, right: float) -> Image.Image:
    """The picture without these shares of its sides."""
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(width * (1 - right)), round(height * (1 - bottom))))


def web_copy(image: Image.Image, encoding: str, quality: int) -> Image.Image:
    """The picture once encoded and decoded."""
    buffer = io.BytesIO()
    image.save(buffer, encoding, quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def written_on(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture with a line of text somewhere, 5 to 9 % of its height."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(10, int(image.height * rng.uniform(0.05, 0.09))))
    words = str(rng.choice(["SAMPLE", "example.com", "Photo: J. Smith", "do not copy", "(c) 2021 Stock Pictures", "Draft"]))
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    place = rng.uniform(0, max(1, image.width - right + left)), rng.uniform(0, max(1, image.height - bottom + top - 4))
    fill, stroke = [("white", "black"), ("red", None), ("black", "white"), ("yellow", "black")][rng.integers(4)]
    draw.text(place, words, font=font, fill=fill, stroke_width=2 if stroke else 0, stroke_fill=stroke)
    return image


def cropped_anywhere(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Nine tenths of both sides, from anywhere."""
    top, left = rng.uniform(0, 0.1, 2)
    return cut(image, top, 0.1 - top, left, 0.1 - left)


COPIES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "JPEG 30": lambda image, _: web_copy(image, "JPEG", 30),
    "JPEG 95": lambda image, _: web_copy(image, "JPEG", 95),
    "WebP 75": lambda image, _: web_copy(image, "WEBP", 75),
    "half size": lambda image, _: scaled(image, 0.5),
    "double size": lambda image, _: scaled(image, 2),
    "grey": lambda image, _: image.convert("L"),
    "2 % border cut": lambda image, _: cut(image, 0.02, 0.02, 0.02, 0.02),
    "10 % crop, centred": lambda image, _: cut(image, 0.05, 0.05, 0.05, 0.05),
    "10 % crop, anywhere": cropped_anywhere,
    "overlay text": written_on,
    "mirrored (asked for)": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}
EVERYTHING = list(COPIES)[:-1]


def table(kind: str, images: Pictures) -> None:
    """Print which share of planted copies is found, and which share of the pairs found is right."""
    ours = packed(images)
    right, wrong = 0, 0
    for name, change in COPIES.items():
        copies = [change(image, np.random.default_rng(number)) for number, image in enumerate(images)]
        found = alike_between(ours, packed(copies), LookAlikeRule(mirrored=name not in EVERYTHING))
        good = int((found.left == found.right).sum())
        print(f"{kind:<12} {name:<22} recall {good / len(images):.3f}  wrong pairs {len(found.left) - good}")
        if name in EVERYTHING:
            right, wrong = right + good, wrong + len(found.left) - good
    total = len(images) * len(EVERYTHING)
    print(f"{kind:<12} {'all but mirrored':<22} recall {right / total:.3f}  precision {right / max(1, right + wrong):.4f}")


def replaced(number: int) -> tuple[Image.Image, Image.Image]:
    """Two cards that are the same but for a number in the place of another, in a line of its own or among others."""
    rng = np.random.default_rng(number)
    size = int(rng.choice([24, 30, 40, 55, 70, 80]))
    font, digits = ImageFont.load_default(size), int(rng.choice([3, 4, 5, 6, 8]))
    lines = [" ".join("".join(rng.choice(list("abcdefgh 0123"), 6)) for _ in range(3)) for _ in range(int(rng.integers(0, 5)))]
    cards = []
    for length in (digits, digits + int(rng.choice([0, 0, -1, 1, digits]))):
        image = Image.new("RGB", (640, 480), "white")
        for line, text in enumerate(["".join(rng.choice(list("0123456789"), length)), *lines]):
            ImageDraw.Draw(image).text((60, 20 + line * (size + 14)), text, fill="black", font=font)
        cards.append(image)
    return cards[0], cards[1]


def look_alikes() -> None:
    """Print how many of REPLACED pairs that show different numbers are taken for copies."""
    merged = 0
    for number in range(REPLACED):
        one, other = replaced(number)
        merged += len(alike_between(packed([one]), packed([other]), LookAlikeRule()).left)
    print(f"{'cards':<12} {'another number':<22} {merged} of {REPLACED} taken for copies")


def packed(images: Pictures) -> Thumbnails:
    """Thumbnails of decoded pictures."""
    rows = np.stack([np.frombuffer(thumbnail_of(np.asarray(image)), np.uint8) for image in images])
    return Thumbnails(rows, np.array([image.width / image.height for image in images], np.float32))


def planted() -> dict[str, Pictures]:
    """Pictures to plant copies of, by kind, no two of which show the same pixels."""
    if not REAL_DATA.is_dir():
        return {"made up": [photograph(number) for number in range(PLANTED)]}
    folders = {"photographs": REAL_DATA / "mantis_chat", "charts": REAL_DATA / "opencqa" / "chart_images"}
    kinds = {}
    for kind, folder in folders.items():
        images: dict[bytes, Image.Image] = {}
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg", ".webp")):
            image = on_white(Image.open(path))
            images.setdefault(image.tobytes(), image)
            if len(images) == PLANTED:
                break
        kinds[kind] = list(images.values())
    return kinds


def main() -> None:
    """Print the figures."""
    for size, count in SIZES.items():
        made_up = [encoded(photograph(number, size)) for number in range(count)]
        speed(f"made up, {size[0]} x {size[1]}", made_up)
    for name, files in photographs_of_the_web().items():
        speed(name, files)
    for kind, images in planted().items():
        table(kind, images)
    look_alikes()


if __name__ == "__main__":
    main()
