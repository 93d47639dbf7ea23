"""Streaming speed: our shuffled stream against the webdataset library and against bare positioned reads.

Makes its own release of random bytes (nothing to decode, so reading is what is measured) in a temporary folder, warms the
page cache by a first pass, then runs all readers in turn, several times, in one process each without DataLoader workers.
`ours` and `theirs` are medians. The limit is `os.pread` of every sample by the index in the
same order, doing nothing with the bytes.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.printing import show
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
from training.index import open_release
from training.stream import ShardStream

SAMPLES_PER_SHARD = 500
IMAGE_BYTES = 64_000


def write_release(folder: Path, num_samples: int) -> Path:
    """A release of samples with one image of about 64 KB of random bytes each."""
    (folder / SHARD_FOLDER).mkdir(parents=True)
    source = random.Random(0)
    shards, rows = [], []
    for number, first in enumerate(range(0, num_samples, SAMPLES_PER_SHARD)):
        content = bytearray()
        chosen = range(first, min(num_samples, first + SAMPLES_PER_SHARD))
        for sample in chosen:
            members = _sample_members(f"{sample:032x}", source)
            rows.append((f"{sample:032x}", number, len(content), len(members)))
            content += members
        content += END_OF_ARCHIVE
        name = shard_name("bench", number)
        (folder / SHARD_FOLDER / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards.append({"name": name, "num_samples": len(chosen), "num_bytes": len(content), "sha256": digest})
    names = ("sample_id", "shard", "offset_bytes", "num_bytes")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    constant = {"source": "bench", "category": "general", "repeat": 0, "num_images": 1, "num_tokens": 20}
    pq.write_table(pa.table(columns | {key: [value] * len(rows) for key, value in constant.items()}), folder / INDEX_NAME)
    manifest = {"schema_version": SCHEMA_VERSION, "mixture": {"name": "bench"}, "shards": shards, "num_samples": num_samples}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder


def _sample_members(key: str, source: random.Random) -> bytes:
    image = source.randbytes(source.randint(IMAGE_BYTES // 2, IMAGE_BYTES * 3 // 2))
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


def read_ours(folder: Path) -> int:
    """Samples read by our stream, shuffled, image bytes as they are."""
    return sum(1 for _ in ShardStream(folder, decode=None))


def read_webdataset(folder: Path) -> int:
    """Samples read by webdataset with its shuffle buffer, JSON parsed as ours is."""
    import webdataset

    shards = [str(path) for path in sorted((folder / SHARD_FOLDER).iterdir())]
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000)
    return sum(1 for sample in dataset if json.loads(sample["json"]) and sample["jpg"])


def read_bare(folder: Path) -> int:
    """Samples read by os.pread alone, in the order of our stream: the limit."""
    release = open_release(folder)
    shards = [os.open(folder / release.shard_path(number), os.O_RDONLY) for number in range(len(release.shards))]
    stream = ShardStream(folder, decode=None)
    rows, _ = stream.order.rows(0, np.arange(release.num_samples, dtype=np.int64), ())
    places = zip(release.shard[rows].tolist(), release.num_bytes[rows].tolist(), release.offsets[rows].tolist(), strict=True)
    num_read = sum(1 for shard, size, start in places if os.pread(shards[shard], size, start))
    for shard in shards:
        os.close(shard)
    return num_read


def time_resume(folder: Path, position: int) -> float:
    """Seconds from a saved position to the next sample, in a fresh stream whose index is open."""
    stream = ShardStream(folder, decode=None)
    state = stream.state_after(position)
    begun = time.perf_counter()
    stream.load_state_dict(state)
    next(iter(stream))
    return time.perf_counter() - begun


def time_skip(folder: Path, position: int) -> float:
    """Seconds webdataset needs to the same place: it can only read what lies before it."""
    import webdataset

    shards = [str(path) for path in sorted((folder / SHARD_FOLDER).iterdir())]
    begun = time.perf_counter()
    next(islice(iter(webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000)), position, None))
    return time.perf_counter() - begun


def samples_per_second(read: Callable[[Path], int], folder: Path, num_samples: int) -> float:
    """Speed of one pass. Stops when a reader does not deliver every sample."""
    begun = time.perf_counter()
    found = read(folder)
    if found != num_samples:
        raise SystemExit(f"{read.__name__} delivered {found} of {num_samples} samples")
    return num_samples / (time.perf_counter() - begun)


def main(arguments: Sequence[str] = ()) -> None:
    """Run the benchmark and print every figure, also as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 samples and one round instead of 10,000 and five")
    quick = parser.parse_args(arguments).quick
    num_samples, rounds = (1_000, 1) if quick else (10_000, 5)
    warnings.filterwarnings("ignore", category=ResourceWarning)
    with tempfile.TemporaryDirectory(prefix="streaming-") as temporary:
        folder = write_release(Path(temporary) / "bench", num_samples)
        readers = {"ours": read_ours, "webdataset": read_webdataset, "bare": read_bare}
        read_bare(folder)
        speeds: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(rounds):
            for name, read in readers.items():
                speeds[name].append(samples_per_second(read, folder, num_samples))
        speed = {name: statistics.median(found) for name, found in speeds.items()}
        place = num_samples * 9 // 10
        resume = statistics.median(time_resume(folder, place) for _ in range(rounds))
        skip = statistics.median(time_skip(folder, place) for _ in range(rounds))
    print(f"{num_samples:,} samples of about 65 KB, shuffled, one process, warm page cache")
    show("stream_vs_webdataset", speed["ours"], speed["webdataset"], "samples/s", versus="webdataset")
    show("stream_vs_bare_pread", speed["ours"], speed["bare"], "samples/s", versus="os.pread by index alone")
    show("resume_at_90_percent", resume * 1e3, skip * 1e3, "ms", versus="webdataset reading up to there")


if __name__ == "__main__":
    main(sys.argv[1:])
