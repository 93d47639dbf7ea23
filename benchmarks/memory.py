"""Peak memory of this process and all its descendants, sampled from /proc; shared pages count once (PSS)."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType

_INTERVAL_SECONDS = 0.05


class PeakMemory:
    """A context manager; `peak_bytes` holds the largest total seen while the block ran, `start_bytes` that before it, and
    `own_cpu_seconds` what looking took, which grows with time and not with work."""

    def __init__(self) -> None:
        self.start_bytes = 0
        self.peak_bytes = 0
        self.own_cpu_seconds = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self.start_bytes = self.peak_bytes = _tree_bytes()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, _tree_bytes())
            self.own_cpu_seconds = time.thread_time()


def _tree_bytes() -> int:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
    total = 0
    for pid in parents:
        ancestor = pid
        while ancestor not in (os.getpid(), 0, 1):
            ancestor = parents.get(ancestor, 0)
        if ancestor == os.getpid():
            total += _pss_bytes(pid)
    return total


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
