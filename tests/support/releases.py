"""Release folders for tests: shards, index and manifest of a list of samples, written with curation's own helpers."""

import hashlib
import io
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from curation.shard_format import (
    END_OF_ARCHIVE,
    INDEX_COLUMNS,
    INDEX_NAME,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    SHARD_FOLDER,
    ShardImage,
    encode_sample,
    image_names,
    occurrence_key,
    padding_bytes,
    shard_name,
    tar_header,
)


@dataclass(frozen=True, kw_only=True)
class TinySample:
    """A sample to write; `images` are encoded bytes, all of them PNG."""

    sample_id: str
    source: str = "shapes"
    category: str = "general"
    question: str = "What is it?"
    answer: str = "A shape."
    images: tuple[bytes, ...] = ()
    repeat: int = 0
    turns: tuple[dict[str, str], ...] = field(default=())

    def conversations(self) -> list[dict[str, str]]:
        """The given turns, or one question and its answer."""
        if self.turns:
            return list(self.turns)
        markers = "<image>\n" * len(self.images)
        return [{"from": "human", "value": markers + self.question}, {"from": "gpt", "value": self.answer}]


def png_bytes(width: int = 4, height: int = 3, colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A plain PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def numbered_samples(count: int, *, with_images: bool = False) -> list[TinySample]:
    """Samples with ids s000000, s000001, ..."""
    images = (png_bytes(),) if with_images else ()
    return [TinySample(sample_id=f"s{number:06d}", images=images) for number in range(count)]


_COLOURS = {"Red": (220, 40, 40), "Green": (40, 160, 60), "Blue": (50, 80, 220), "Yellow": (230, 200, 40)}
_WORDS = ("apple", "river", "stone", "cloud")


def demo_samples(count: int, *, seed: int = 0) -> list[TinySample]:
    """Shapes, bar charts, written words and sums in turn, with answers of a word."""
    makers = (_shape_sample, _chart_sample, _word_sample, _sum_sample)
    random_source = random.Random(seed)
    return [makers[number % len(makers)](f"demo{number:05d}", random_source) for number in range(count)]


def _encode(image: Image.Image) -> tuple[bytes, ...]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return (buffer.getvalue(),)


def _shape_sample(sample_id: str, source: random.Random) -> TinySample:
    name = source.choice(list(_COLOURS))
    image = Image.new("RGB", (source.randint(100, 300), source.randint(100, 300)), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 80, 80), fill=_COLOURS[name])
    question = "What colour is the shape?"
    return TinySample(sample_id=sample_id, question=question, answer=name, images=_encode(image))


def _chart_sample(sample_id: str, source: random.Random) -> TinySample:
    heights = [source.randint(10, 90) for _ in range(3)]
    image = Image.new("RGB", (160, 120), "white")
    draw = ImageDraw.Draw(image)
    for number, height in enumerate(heights):
        draw.rectangle((20 + 45 * number, 110 - height, 50 + 45 * number, 110), fill=(60, 90, 160))
    answer = ("Left", "Middle", "Right")[heights.index(max(heights))]
    question = "Which bar is the highest?"
    return TinySample(
        sample_id=sample_id, source="charts", category="ocr", question=question, answer=answer, images=_encode(image)
    )


def _word_sample(sample_id: str, source: random.Random) -> TinySample:
    word = source.choice(_WORDS)
    image = Image.new("RGB", (120, 40), "white")
    ImageDraw.Draw(image).text((10, 12), word, fill="black")
    question = "Read the word."
    return TinySample(
        sample_id=sample_id, source="words", category="ocr", question=question, answer=word, images=_encode(image)
    )


def _sum_sample(sample_id: str, source: random.Random) -> TinySample:
    first, second = source.randint(0, 9), source.randint(0, 9)
    question = f"What is {first} + {second}?"
    return TinySample(sample_id=sample_id, source="sums", category="language", question=question, answer=str(first + second))


def _members(sample: TinySample) -> bytes:
    key = occurrence_key(sample.sample_id, sample.repeat)
    names = image_names(["png"] * len(sample.images))
    listed = []
    for name, content in zip(names, sample.images, strict=True):
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
        listed.append(ShardImage(name=name, width=width, height=height, sha256=hashlib.sha256(content).hexdigest()))
    payload = encode_sample(
        key=key,
        source=sample.source,
        category=sample.category,
        conversations=sample.conversations(),
        images=listed,
        license="CC0-1.0",
        origin={"file": "made-up.json", "position": 0, "id": sample.sample_id},
    )
    parts = []
    for name, content in [("json", payload), *zip(names, sample.images, strict=True)]:
        parts += [tar_header(f"{key}.{name}", len(content)), content, bytes(padding_bytes(len(content)))]
    return b"".join(parts)


def write_release(folder: Path, samples: Sequence[TinySample], *, name: str = "tiny", samples_per_shard: int = 100) -> Path:
    """Write a release folder and return it."""
    rows = (
        {
            "sample_id": sample.sample_id,
            "source": sample.source,
            "category": sample.category,
            "repeat": sample.repeat,
            "num_images": len(sample.images),
            "num_tokens": len(sample.question) + len(sample.answer),
        }
        for sample in samples
    )
    return write_shards(folder, zip(rows, map(_members, samples), strict=True), name=name, samples_per_shard=samples_per_shard)


def write_shards(folder: Path, samples: Iterable[tuple[dict[str, Any], bytes]], *, name: str, samples_per_shard: int) -> Path:
    """Write a release of samples given as row of the index, without the columns that say where it lies, and tar members."""
    (folder / SHARD_FOLDER).mkdir(parents=True)
    shards: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    left = iter(samples)
    while chosen := list(islice(left, samples_per_shard)):
        content = bytearray()
        for row, members in chosen:
            rows.append({**row, "shard": len(shards), "offset_bytes": len(content), "num_bytes": len(members)})
            content += members
        content += END_OF_ARCHIVE
        shard = shard_name(name, len(shards))
        (folder / SHARD_FOLDER / shard).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards.append({"name": shard, "num_samples": len(chosen), "num_bytes": len(content), "sha256": digest})
    pq.write_table(pa.Table.from_pylist(rows).select(INDEX_COLUMNS), folder / INDEX_NAME)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "mixture": {"name": name},
        "shards": shards,
        "num_samples": len(rows),
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder
