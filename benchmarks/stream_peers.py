"""Our shuffled stream beside litdata, grain, MDS, Megatron-Energon and `datasets`: samples/s of raw bytes in one process.

Each reads the same samples in its own way of shuffling, from its own format where it has one (made before), and parses
the JSON. What is not installed is left out and named; `pip install litdata grain mosaicml-streaming megatron-energon` brings
them. litdata and mosaicml-streaming name torchvision among their needs: litdata reads without it, and of mosaicml-streaming
only classes that are not used here need it, which are imported with the rest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.printing import show
from benchmarks.stream_release import write_release
from benchmarks.streaming import Ours, medians, read_webdataset
from curation.shard_format import SHARD_FOLDER
from training.members import read_members
from training.stream import ShardStream


class Counted:
    """A reader around anything that yields samples: how many come, up to `num_samples`."""

    def __init__(self, make: Callable[[], Iterable[Any]], num_samples: int, size: Callable[[Any], int]) -> None:
        self._make, self._num_samples, self._size = make, num_samples, size

    def __call__(self, folder: Path) -> int:
        """Samples read whose image has bytes."""
        del folder
        return sum(1 for sample in islice(self._make(), self._num_samples) if self._size(sample) > 0)


def make_litdata(folder: Path, work: Path, num_samples: int) -> Counted:
    """litdata over its own format."""
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(work), chunk_bytes=64 << 20)
    for number, sample in enumerate(ShardStream(folder, decode=None, shuffle=False)):
        image = sample.pop("images")[0]
        writer[number] = {"json": json.dumps(sample), "jpg": image}
    writer.done()
    writer.merge()
    dataset = StreamingDataset(str(work), shuffle=True)
    return Counted(lambda: dataset, num_samples, lambda sample: json.loads(sample["json"]) and len(sample["jpg"]))


def make_mds(folder: Path, work: Path, num_samples: int) -> Counted:
    """mosaicml-streaming over its own format, MDS."""
    with _torchvision_named():
        from streaming import MDSWriter, StreamingDataset

    with MDSWriter(out=str(work), columns={"json": "str", "jpg": "bytes"}) as writer:
        for sample in ShardStream(folder, decode=None, shuffle=False):
            image = sample.pop("images")[0]
            writer.write({"json": json.dumps(sample), "jpg": image})
    dataset = StreamingDataset(local=str(work), shuffle=True, batch_size=1)
    return Counted(lambda: dataset, num_samples, lambda sample: json.loads(sample["json"]) and len(sample["jpg"]))


@contextmanager
def _torchvision_named() -> Iterator[None]:
    """Where there is no torchvision: the two names that mosaicml-streaming's data sets of pictures import, and never call."""
    if _is_installed("torchvision"):
        yield
        return
    names = {"torchvision": {}, "torchvision.datasets": {"VisionDataset": object}, "torchvision.transforms": {}}
    names["torchvision.transforms.functional"] = {"to_tensor": None}
    from transformers import feature_extraction_utils  # it asks whether there is a torchvision, and gets the true answer

    del feature_extraction_utils
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        vars(module).update(names[name])
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class IndexedSamples:
    """Random access to the samples of a release by its index, for loaders that bring an order of their own."""

    def __init__(self, folder: Path) -> None:
        release = ShardStream(folder, decode=None).releases[0]
        paths = [folder / release.shard_path(number) for number in range(len(release.shards))]
        self._descriptors = [os.open(path, os.O_RDONLY) for path in paths]
        columns = (release.shard, release.offsets, release.num_bytes)
        self._places = list(zip(*(column.tolist() for column in columns), strict=True))

    def __len__(self) -> int:
        """Samples there are."""
        return len(self._places)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        """A sample as its parts."""
        shard, start, num_bytes = self._places[row]
        return read_members(self._descriptors[shard], start, num_bytes)


def make_grain(folder: Path, work: Path, num_samples: int) -> Counted:
    """Grain over our index and our reader of samples."""
    import grain.python as grain

    del work
    source = IndexedSamples(folder)
    return Counted(
        lambda: grain.MapDataset.source(source).shuffle(seed=0).to_iter_dataset(), num_samples, lambda sample: len(sample[2][0])
    )


def make_energon(folder: Path, work: Path, num_samples: int) -> Counted:
    """Megatron-Energon over the same tars, prepared by its own command."""
    from megatron.energon import Cooker, CrudeSample, DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset
    from megatron.energon import stateless as without_state

    work.mkdir()
    for shard in (folder / SHARD_FOLDER).iterdir():
        (work / shard.name).symlink_to(shard)
    prepare = [str(Path(sys.executable).with_name("energon")), "prepare", "--non-interactive", "--split-ratio", "1,0,0"]
    subprocess.run([*prepare, "--sample-type", "CrudeWebdataset", str(work)], check=True, capture_output=True)

    @without_state
    def cook(sample: CrudeSample) -> CrudeSample:
        return sample

    class Encoder(DefaultTaskEncoder):  # type: ignore[misc]
        cookers = [Cooker(cook)]
        decoder = None

    config = WorkerConfig(rank=0, world_size=1, num_workers=0)

    def make() -> Iterable[Any]:
        options = {"batch_size": None, "shuffle_buffer_size": 1000, "max_samples_per_sequence": 100}
        return get_loader(get_train_dataset(work, worker_config=config, task_encoder=Encoder(), **options))

    return Counted(make, num_samples, lambda sample: json.loads(sample["json"]) and len(sample["jpg"]))


def make_datasets(folder: Path, work: Path, num_samples: int) -> Counted:
    """Hugging Face datasets, streaming the same tars."""
    import datasets

    del work
    datasets.disable_progress_bars()
    tars = sorted(map(str, (folder / SHARD_FOLDER).iterdir()))
    stream = datasets.load_dataset("webdataset", data_files=tars, split="train", streaming=True).decode(False)
    return Counted(lambda: stream.shuffle(seed=0, buffer_size=1000), num_samples, lambda sample: len(sample["jpg"]["bytes"]))


PEERS: dict[str, tuple[str, Callable[[Path, Path, int], Counted]]] = {
    "litdata": ("litdata", make_litdata),
    "grain": ("grain", make_grain),
    "mds": ("streaming", make_mds),
    "energon": ("megatron.energon", make_energon),
    "datasets": ("datasets", make_datasets),
}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def main(arguments: Sequence[str] = ()) -> None:
    """Run the benchmark and print every figure, also as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 samples and one round instead of 10,000 and three")
    num_samples, rounds = (1_000, 1) if parser.parse_args(arguments).quick else (10_000, 3)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="stream-peers-") as temporary:
        folder = write_release(Path(temporary) / "bench", num_samples)
        readers: dict[str, Callable[[Path], int]] = {"ours": Ours(folder), "webdataset": read_webdataset}
        for name, (module, make) in PEERS.items():
            if _is_installed(module):
                readers[name] = make(folder, Path(temporary) / name, num_samples)
            else:
                print(f"{name} is not installed, and left out")
        found = medians(readers, folder, num_samples, rounds)
        print(f"{num_samples:,} samples of about 65 KB, shuffled, warm page cache, medians of {rounds}; one process")
        for name in list(readers)[1:]:
            show(f"stream_vs_{name}", found["ours"], found[name], "samples/s", versus=name)


if __name__ == "__main__":
    main(sys.argv[1:])
