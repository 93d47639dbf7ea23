"""`make bench`: run every benchmark in turn, each in a process of its own, so that none warms another's caches or heap."""

import subprocess
import sys

BENCHMARKS = (
    "images",
    "ingest",
    "dedup",
    "near_images",
    "semantic",
    "planning",
    "sharding",
    "streaming",
    "stream_peers",
    "stream_scale",
    "explore",
    "sva",
    "slice",
    "learning",
)


def main() -> int:
    """Run them; returns 1 when any failed."""
    status = 0
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        status |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode != 0
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
