"""Processes of this machine, from /proc: who runs below whom."""

from collections.abc import Sequence
from pathlib import Path


def ray_tasks(homes: Sequence[int]) -> list[int]:
    """Workers below the processes `homes` that run a task of Ray now."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue

    def is_below(pid: int) -> bool:
        while pid in parents and pid not in homes:
            pid = parents[pid]
        return pid in homes

    # "ray::IDLE" waits, and "ray::DashboardAgent" and its like keep a node going; functions have small letters.
    return [pid for pid, title in titles.items() if title.startswith("ray::") and title[5:6].islower() and is_below(pid)]
