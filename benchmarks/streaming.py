"""Streaming speed: our shuffled stream against other libraries and against bare positioned reads.

Makes a release of random bytes (nothing to decode, so reading is what is measured) in a temporary folder, warms the page
cache by a first pass, then runs all readers in turn, several times. `ours` and `theirs` are medians. The limit in one
process is `os.pread` of every sample by the index in the order of our stream, doing nothing with the bytes: about what memory
can copy. *Parsed* adds what no loader can leave out, the parsing of the JSON, and no check of anything. With two
DataLoader workers the limit is the same in the workers, whose bytes then cross the loader's queue. `stream_peers` has other
libraries. Decoding is measured on photographs, resized to 384 px in two workers, against the same loaders around Pillow.
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from orjson import loads
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.printing import show
from benchmarks.stream_release import photograph, write_release
from curation.shard_format import BLOCK_BYTES, SHARD_FOLDER
from training.decode import ImageDecoder, open_rgb
from training.stream import ShardStream

BATCH = 32
SIDE_PX = 384


class BareReads(IterableDataset[bytes]):
    """Every sample of a release by `os.pread`, in the order of our stream, shared out to workers."""

    def __init__(self, folder: Path) -> None:
        stream = ShardStream(folder, decode=None)
        release = stream.releases[0]
        rows, _ = stream.order.rows(0, np.arange(release.num_samples, dtype=np.int64), ())
        paths = [str(folder / release.shard_path(number)) for number in range(len(release.shards))]
        self._descriptors = [os.open(path, os.O_RDONLY) for path in paths]
        columns = (release.shard[rows].tolist(), release.num_bytes[rows].tolist(), release.offsets[rows].tolist())
        self._places = list(zip(*columns, strict=True))

    def __iter__(self) -> Iterator[bytes]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for shard, size, start in self._places[first::step]:
            yield os.pread(self._descriptors[shard], size, start)

    def read_all(self) -> int:
        """Read every sample in a bare loop."""
        descriptors, pread = self._descriptors, os.pread
        return sum(1 for shard, size, start in self._places if pread(descriptors[shard], size, start))

    def read_and_parse(self) -> int:
        """Read every sample in a bare loop, and parse its JSON."""
        found = 0
        for shard, size, start in self._places:
            data = os.pread(self._descriptors[shard], size, start)
            found += bool(loads(data[BLOCK_BYTES : BLOCK_BYTES + int(data[124:135], 8)]))
        return found


class Ours:
    """Our stream, shuffled, image bytes as they are; every round another epoch. Opening is measured by stream_scale."""

    def __init__(self, folder: Path) -> None:
        self._stream = ShardStream(folder, decode=None)

    def __call__(self, folder: Path) -> int:
        """Samples read."""
        del folder
        self._stream.set_epoch(self._stream.epoch + 1)
        return sum(1 for _ in self._stream)


def read_webdataset(folder: Path) -> int:
    """Samples read by webdataset with its shuffle buffer, JSON parsed as ours is."""
    return sum(1 for sample in _webdataset(folder) if json.loads(sample["json"]) and sample["jpg"])


def _webdataset(folder: Path) -> Any:
    import webdataset

    shards = [str(path) for path in sorted((folder / SHARD_FOLDER).iterdir())]
    return webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000)


def _images_and_texts(samples: Sequence[Any]) -> list[Any]:
    return list(samples)


def load(dataset: Any, size: Callable[[Any], int]) -> int:
    """Samples that a DataLoader with two workers hands to the main process, every image's bytes touched there."""
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=2, collate_fn=_images_and_texts)
    return sum(1 for batch in loader for sample in batch if size(sample) > 0)


def load_ours(folder: Path) -> int:
    """Our stream in two workers."""
    return load(ShardStream(folder, decode=None, batch_size=BATCH), lambda sample: len(sample["images"][0]))


def load_bare(folder: Path) -> int:
    """Bare reads in two workers, their bytes through the queue."""
    return load(BareReads(folder), len)


def load_webdataset(folder: Path) -> int:
    """webdataset in two workers."""
    return load(_webdataset(folder), lambda sample: len(sample["jpg"]))


def _resized(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def _pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return _resized(image.convert("RGB"))


_TURBO = ImageDecoder(decode="turbo", side_px=SIDE_PX)
_DRAFT = ImageDecoder(side_px=SIDE_PX)


def _ours_turbo(content: bytes) -> np.ndarray:
    return _resized(_TURBO(content, "jpg"))


def _ours_pillow(content: bytes) -> np.ndarray:
    return _resized(_DRAFT(content, "jpg"))


def decode_ours(folder: Path) -> int:
    """Our stream with the faster decoder and decode-time scaling."""
    return load(ShardStream(folder, decode=_ours_turbo, batch_size=BATCH), lambda sample: sample["images"][0].size)


def decode_scaled(folder: Path) -> int:
    """Our stream with Pillow and decode-time scaling."""
    return load(ShardStream(folder, decode=_ours_pillow, batch_size=BATCH), lambda sample: sample["images"][0].size)


def decode_webdataset(folder: Path) -> int:
    """webdataset with Pillow."""
    return load(_webdataset(folder).map(lambda sample: _pillow(sample["jpg"])), lambda image: image.size)


def decode_bare(folder: Path) -> int:
    """Our stream with Pillow at full size: what every loader around Pillow comes to."""
    return load(ShardStream(folder, decode=_pillow, batch_size=BATCH), lambda sample: sample["images"][0].size)


def pixel_difference(folder: Path, num_samples: int = 20) -> tuple[float, float]:
    """Mean absolute difference (of 255) of the faster decoder's pictures at 384 px to Pillow's: scaled, and at full size."""
    scaled, full = [], []
    whole = ImageDecoder(decode="turbo")
    for sample in islice(ShardStream(folder, decode=None), num_samples):
        content = sample["images"][0]
        exact = _pillow(content).astype(int)
        scaled.append(np.abs(_ours_turbo(content) - exact).mean())
        reference = np.asarray(open_rgb(content, name="jpg", max_image_pixels=1 << 30)).astype(int)
        full.append(np.abs(np.asarray(whole(content, "jpg")) - reference).mean())
    return float(np.mean(scaled)), float(np.mean(full))


def medians(readers: dict[str, Callable[[Path], int]], folder: Path, num_samples: int, rounds: int) -> dict[str, float]:
    """Samples/s of readers that take turns. Stops when one does not deliver every sample."""
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            begun = time.perf_counter()
            found = read(folder)
            speeds[name].append(num_samples / (time.perf_counter() - begun))
            if found != num_samples:
                raise SystemExit(f"{name} delivered {found} of {num_samples} samples")
    return {name: statistics.median(found) for name, found in speeds.items()}


def main(arguments: Sequence[str] = ()) -> None:
    """Run the benchmark and print every figure, also as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 samples and one round instead of 20,000 and five")
    quick = parser.parse_args(arguments).quick
    num_samples, num_photographs, rounds = (1_000, 64, 1) if quick else (20_000, 480, 5)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="streaming-") as temporary:
        folder = write_release(Path(temporary) / "bench", num_samples)
        bare = BareReads(folder)
        bare.read_all()
        readers = {
            "bare": lambda _: bare.read_all(),
            "parsed": lambda _: bare.read_and_parse(),
            "ours": Ours(folder),
            "webdataset": read_webdataset,
        }
        one = medians(readers, folder, num_samples, rounds)
        print(f"{num_samples:,} samples of about 65 KB, shuffled, warm page cache, medians of {rounds}; one process")
        show("stream_vs_bare_pread", one["ours"], one["bare"], "samples/s", versus="os.pread by index alone")
        show("parsed_vs_bare_pread", one["parsed"], one["bare"], "samples/s", versus="os.pread by index alone")
        show("stream_vs_parsed_pread", one["ours"], one["parsed"], "samples/s", versus="os.pread by index, JSON parsed")
        show("stream_vs_webdataset", one["ours"], one["webdataset"], "samples/s", versus="webdataset")
        two = medians({"bare": load_bare, "ours": load_ours, "webdataset": load_webdataset}, folder, num_samples, rounds)
        print("the same through a DataLoader with two workers")
        show("loader_vs_bare_pread", two["ours"], two["bare"], "samples/s", versus="os.pread in workers, bytes queued")
        show("loader_vs_webdataset", two["ours"], two["webdataset"], "samples/s", versus="webdataset")
        pictures = write_release(Path(temporary) / "pictures", num_photographs, draw=photograph, samples_per_shard=16)
        decoders = {"ours": decode_ours, "scaled": decode_scaled, "pillow": decode_bare, "webdataset": decode_webdataset}
        decoded = medians(decoders, pictures, num_photographs, min(rounds, 3))
        print(f"{num_photographs} JPEGs of 1024 x 768, decoded and resized to {SIDE_PX} px in two workers")
        show("decode_vs_webdataset", decoded["ours"], decoded["webdataset"], "samples/s", versus="webdataset with Pillow")
        show("decode_vs_pillow", decoded["ours"], decoded["pillow"], "samples/s", versus="our stream with Pillow, unscaled")
        show("decode_pillow_scaled", decoded["scaled"], decoded["pillow"], "samples/s", versus="the same unscaled")
        scaled, full = pixel_difference(pictures)
        print(f"mean absolute pixel difference to Pillow: {scaled:.2f} of 255 scaled and resized, {full:.3f} at full size")


if __name__ == "__main__":
    main(sys.argv[1:])
