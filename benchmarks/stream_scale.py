"""What does not grow: opening a release of ten million rows, loading a state anywhere in it, a worker's memory; and how
well its order is shuffled.

The large release has an index and shards that are holes, so nothing can be read from it but everything can be planned.
Time to the next sample and memory are measured on a release that can be read. `theirs` is the bound that holds.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from benchmarks.printing import show
from benchmarks.stream_release import write_large_index, write_release
from training.order import ShardOrder, Shuffle
from training.stream import WINDOW, ShardStream

OPEN_SECONDS = 1.0
OPEN_MEGABYTES = 500.0
NEXT_SAMPLE_MS = 50.0
WORKER_MEGABYTES = 150.0


def open_large(folder: Path) -> tuple[float, float, float]:
    """Seconds to open the release in a fresh process, by the clock and of the CPU, and the process's peak MB with imports."""
    code = (
        "import re, sys, time; from pathlib import Path; from training.index import open_release;"
        "begun, used = time.perf_counter(), time.process_time(); open_release(sys.argv[1]);"
        "seconds = (time.perf_counter() - begun, time.process_time() - used);"
        "print(*seconds, int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1e3)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True)
    seconds, cpu_seconds, megabytes = map(float, found.stdout.split())
    return seconds, cpu_seconds, megabytes


def next_row_ms(folder: Path, position: int) -> float:
    """Milliseconds from a state at `position` to the place of the next sample, in a stream that is open."""
    stream = ShardStream(folder, decode=None)
    state = stream.state_after(position)
    begun = time.perf_counter()
    stream.load_state_dict(state)
    stream.row_bytes(stream.batch_rows(0, rank=0, world_size=1, batch_size=1))
    return (time.perf_counter() - begun) * 1e3


def next_sample_ms(folder: Path, position: int) -> float:
    """Milliseconds from a state at `position` to the next sample, in a fresh stream whose index is open."""
    stream = ShardStream(folder, decode=None)
    state = stream.state_after(position)
    begun = time.perf_counter()
    stream.load_state_dict(state)
    next(iter(stream))
    return (time.perf_counter() - begun) * 1e3


def own_megabytes(pid: int) -> float:
    """Memory that is a process's own: what would come free if it ended."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def worker_memory(folder: Path, num_epochs: int) -> tuple[float, float]:
    """A worker's own MB after a tenth of an epoch and at the end of the last."""
    stream = ShardStream(folder, decode=None, batch_size=32)
    loader = DataLoader(stream, batch_size=32, num_workers=1, collate_fn=len, persistent_workers=True)
    first = last = 0.0
    for epoch in range(num_epochs):
        stream.set_epoch(epoch)
        batches = iter(loader)
        worker = batches._workers[0].pid
        num_batches = stream.order.num_positions // 32
        for number, _ in enumerate(batches):
            if epoch == 0 and number == num_batches // 10:
                first = own_megabytes(worker)
            if number == num_batches - 1:
                last = own_megabytes(worker)
    return first, last


def shuffle_quality(shuffle: Shuffle, num_samples: int = 200_000, batch: int = 256) -> tuple[float, float, float]:
    """Mean displacement as a share of a full shuffle's (a third of all), and mean entropy in bits of a batch's 32 sources.

    The entropy twice: where samples lie in the file in a random order, as `curate build` writes them, and where sources lie
    one after the other, the worst case of other people's tars.
    """
    order = ShardOrder(num_positions=num_samples, seed=0, shuffle=shuffle, window=WINDOW)
    rows = order.rows(0, np.arange(num_samples))[0]
    displacement = np.abs(rows - np.arange(num_samples)).mean() / (num_samples / 3)
    sorted_sources = np.arange(num_samples) * 32 // num_samples
    built = np.random.default_rng(0).permutation(sorted_sources)
    return float(displacement), _batch_entropy(built[rows], batch), _batch_entropy(sorted_sources[rows], batch)


def _batch_entropy(sources: np.ndarray, batch: int) -> float:
    entropies = []
    for first in range(0, len(sources) - batch, batch * 8):
        counts = np.array(list(Counter(sources[first : first + batch].tolist()).values())) / batch
        entropies.append(float(-(counts * np.log2(counts)).sum()))
    return statistics.mean(entropies)


def main(arguments: Sequence[str] = ()) -> None:
    """Run the benchmark and print every figure, also as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything")
    quick = parser.parse_args(arguments).quick
    num_rows, num_samples = (100_000, 1_000) if quick else (10_000_000, 5_000)
    with tempfile.TemporaryDirectory(prefix="stream-scale-") as temporary:
        large = write_large_index(Path(temporary) / "large", num_rows)
        opened = [open_large(large) for _ in range(3)]
        print(f"opening a release of {num_rows:,} rows, in a fresh process")
        show("open_seconds", statistics.median(o[0] for o in opened), OPEN_SECONDS, "s", versus="bound")
        show("open_cpu_seconds", statistics.median(o[1] for o in opened), OPEN_SECONDS, "s", versus="bound")
        show("open_megabytes", statistics.median(o[2] for o in opened), OPEN_MEGABYTES, "MB", versus="bound")
        for share in (0.0, 0.5, 0.999):
            ms = statistics.median(next_row_ms(large, int(num_rows * share)) for _ in range(3))
            show(f"next_place_at_{share:.1%}_of_large", ms, NEXT_SAMPLE_MS, "ms", versus="bound")
        folder = write_release(Path(temporary) / "bench", num_samples)
        ms = statistics.median(next_sample_ms(folder, num_samples * 9 // 10) for _ in range(5))
        show("next_sample_at_90_percent", ms, NEXT_SAMPLE_MS, "ms", versus="bound")
        first, last = worker_memory(folder, 3)
        show("worker_megabytes_at_the_end", last, WORKER_MEGABYTES, "MB", versus="bound")
        show("worker_megabytes_growth", last, first, "MB", versus="after a tenth of the first epoch")
    for shuffle in (Shuffle.BLOCK, Shuffle.FULL):
        displacement, built, worst = shuffle_quality(shuffle)
        print(
            f"{shuffle}: mean displacement {displacement:.3f} of a full shuffle's; source entropy of a batch {built:.2f} bits "
            f"in a release as built, {worst:.2f} where sources lie one after the other (of 5.00)"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
