"""Releases for the benchmarks of streaming: random bytes, photographs, or an index of millions of rows."""

import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation.shard_format import (
    END_OF_ARCHIVE,
    INDEX_NAME,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    SHARD_FOLDER,
    ShardImage,
    encode_sample,
    padding_bytes,
    shard_name,
    tar_header,
)
from tests.support.releases import write_shards

IMAGE_BYTES = 64_000


def noise(source: random.Random) -> bytes:
    """Random bytes: nothing to decode, so reading is what is measured."""
    return source.randbytes(source.randint(IMAGE_BYTES // 2, IMAGE_BYTES * 3 // 2))


def photograph(source: random.Random) -> bytes:
    """A JPEG of 1024 x 768 with edges, gradients and a little grain, about as hard to decode as a photograph."""
    rng = np.random.default_rng(source.getrandbits(32))
    coarse = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((1024, 768), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.normal(0, 6, smooth.shape).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def write_large_index(folder: Path, num_samples: int) -> Path:
    """A release of so many samples whose shards are holes: an index and a manifest as `curate build` writes them."""
    (folder / SHARD_FOLDER).mkdir(parents=True)
    per_shard = 16_000
    rng = np.random.default_rng(0)
    shard = np.arange(num_samples) // per_shard
    size = rng.integers(64, 192, num_samples) * 512
    ends = np.cumsum(size)
    firsts = np.arange(0, num_samples, per_shard)
    offset = ends - size - (ends - size)[firsts][shard]
    ids = [f"bench-{number:024x}" for number in range(num_samples)]
    columns = {"sample_id": ids, "shard": shard.astype(np.int32), "offset_bytes": offset, "num_bytes": size}
    figures = {"repeat": 0, "num_images": 1, "num_tokens": 20}
    columns |= {name: np.full(num_samples, value, np.int32) for name, value in figures.items()}
    texts = {"source": "bench", "category": "general"}
    columns |= {name: pa.array([value]).take(pa.array(np.zeros(num_samples, np.int8))) for name, value in texts.items()}
    pq.write_table(pa.table(columns), folder / INDEX_NAME, compression="lz4", row_group_size=50_000)
    shards = []
    for number, first in enumerate(firsts.tolist()):
        last = min(num_samples, first + per_shard) - 1
        num_bytes = int(offset[last] + size[last]) + len(END_OF_ARCHIVE)
        name = shard_name("large", number)
        with (folder / SHARD_FOLDER / name).open("wb") as hole:
            hole.truncate(num_bytes)
        shards.append({"name": name, "num_samples": last + 1 - first, "num_bytes": num_bytes, "sha256": "0" * 64})
    manifest = {"schema_version": SCHEMA_VERSION, "mixture": {"name": "large"}, "shards": shards, "num_samples": num_samples}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder


def write_release(
    folder: Path, num_samples: int, *, draw: Callable[[random.Random], bytes] = noise, samples_per_shard: int = 500
) -> Path:
    """A release of samples with one image each, by default about 64 KB of random bytes."""
    source = random.Random(0)
    figures = {"source": "bench", "category": "general", "repeat": 0, "num_images": 1, "num_tokens": 20}
    keys = (f"{sample:032x}" for sample in range(num_samples))
    samples = (({"sample_id": key, **figures}, _sample_members(key, draw(source))) for key in keys)
    return write_shards(folder, samples, name="bench", samples_per_shard=samples_per_shard)


def _sample_members(key: str, image: bytes) -> bytes:
    payload = encode_sample(
        key=key,
        source="bench",
        category="general",
        conversations=[{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Noise."}],
        images=[ShardImage(name="jpg", width=1, height=1, sha256="0" * 64)],
        license="CC0-1.0",
        origin={"file": "none", "position": 0, "id": key},
    )
    parts = []
    for name, content in ((f"{key}.json", payload), (f"{key}.jpg", image)):
        parts += [tar_header(name, len(content)), content, bytes(padding_bytes(len(content)))]
    return b"".join(parts)


if __name__ == "__main__":
    write_release(Path(sys.argv[1]), int(sys.argv[2]), draw=photograph if "--photographs" in sys.argv else noise)
