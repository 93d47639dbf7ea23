"""A soak: scheduled releases of a small world that changes, while drivers and workers are killed; `--minutes` long.

    python -m benchmarks.soak --minutes 60

Each round changes something upstream (or nothing), runs the scheduled release as a process of its own, and maybe kills it, or
one of its workers, at a random moment; a killed run is simply run again, as a schedule would. At the end the accounts of every
release must balance, the last release must verify, nothing half-done may be left, and an undisturbed build of the same
upstream in a fresh root must give the same bytes. Prints one JSON line; exit status 1 when any of that does not hold.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import ray_tasks
from curation.inspection.verification import verify
from curation.runtime.pool import InProcessPool
from curation.storage.store import latest
from flows.demo.world import generate

REPOSITORY = Path(__file__).parents[1]
CATALOG = REPOSITORY / "flows/demo/catalog.yaml"
RUN = "import sys; from flows.environment import prepare_environment; prepare_environment(); from flows.release import release"
RUN += "; release(*sys.argv[1:4], quiet=True)"
KILLS = ("none", "none", "driver", "driver", "worker", "worker")
CHANGES = ("nothing", "line", "line", "picture", "cut", "restore")


@dataclass
class Soak:
    """A world, its root, and what happened so far."""

    folder: Path
    random: random.Random
    runtime: str
    counts: Counter[str] = field(default_factory=Counter)
    typical_seconds: float = 20.0

    @property
    def upstream(self) -> Path:
        """What the sources are read from."""
        return self.folder / "upstream"

    @property
    def lake(self) -> Path:
        """The root."""
        return self.folder / "lake"

    def round(self) -> None:
        """One change, and runs of the schedule until one ends well."""
        change(self.upstream, self.random.choice(CHANGES), self.random, self.counts)
        before = latest(self.lake / "releases" / "soak")
        kill = self.random.choice(KILLS)
        while not self.run(kill):
            kill = self.random.choice(KILLS)
        folder = latest(self.lake / "releases" / "soak")
        assert folder is not None
        self.counts["nothing_new" if folder == before else "releases"] += 1
        assert_balanced(folder)

    def run(self, kill: str) -> bool:
        """The scheduled release once; whether it ended well. It may only fail when it was killed."""
        self.counts["runs"] += 1
        command = [sys.executable, "-c", RUN, str(self.folder / "soak.yaml"), str(self.lake), str(CATALOG)]
        environment = {
            **os.environ,
            "CURATION_DEMO_DATA": str(self.upstream),
            "CURATION_RUNTIME": self.runtime,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PYTHONPATH": str(REPOSITORY),
        }
        started = time.monotonic()
        with (self.folder / "run.log").open("w") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
            was_killed = self._kill(kill, process, started + self.random.uniform(1, self.typical_seconds))
            status = process.wait()
        if status == 0:
            self.typical_seconds += ((time.monotonic() - started) - self.typical_seconds) / 4
        elif not was_killed:
            sys.exit(f"a run that was left alone failed with {status}:\n{(self.folder / 'run.log').read_text()[-4_000:]}")
        return status == 0

    def _kill(self, kill: str, process: subprocess.Popen[bytes], moment: float) -> bool:
        """Kill a driver with all its processes, or one of its workers that is at work; whether the driver was."""
        while kill != "none" and process.poll() is None:
            if time.monotonic() >= moment:
                if kill == "driver":
                    os.killpg(process.pid, signal.SIGKILL)
                    self.counts["killed_drivers"] += 1
                    return True
                if workers := ray_tasks([process.pid]):
                    os.kill(self.random.choice(workers), signal.SIGKILL)
                    self.counts["killed_workers"] += 1
                    return False
            time.sleep(0.01)
        return False


def change(upstream: Path, what: str, rng: random.Random, counts: Counter[str]) -> None:
    """Change the world as publishers do: a line goes or comes twice, a picture is another or cut short, all is as at first."""
    counts[f"changed_{what}"] += 1
    lines = sorted(upstream.rglob("*.jsonl"))
    pictures = sorted(path for path in upstream.rglob("*") if path.suffix in (".png", ".jpg"))
    if what == "restore":
        generate(upstream)
    elif what == "line":
        path = rng.choice(lines)
        found = path.read_bytes().splitlines(keepends=True)
        place = rng.randrange(len(found))
        _write(path, b"".join(found[:place] + found[place + 1 :] + (found[:1] if rng.random() < 0.5 else [])))
    elif what == "picture":
        _write(rng.choice(pictures), rng.choice(pictures).read_bytes())
    elif what == "cut":
        path = rng.choice(pictures)
        data = path.read_bytes()
        _write(path, data[: rng.randrange(1, len(data))] if len(data) > 1 else data)


def _write(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def assert_balanced(folder: Path) -> None:
    """Records = samples + rejected, samples = kept + dropped, for every source of a release."""
    for name, counts in json.loads((folder / "manifest.json").read_bytes())["conservation"].items():
        assert counts["records"] == counts["samples"] + sum(counts["rejected"].values()), f"{folder}: {name}: {counts}"
        assert counts["samples"] == counts["kept"] + sum(counts["dropped"].values()), f"{folder}: {name}: {counts}"


def content(folder: Path) -> dict[str, Any]:
    """Every file's bytes; of manifests all but the time of creation."""
    files: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {**files, "manifest.json": {**json.loads(files.get("manifest.json", b"{}")), "created": None}}


def differing(one: Path, other: Path) -> list[str]:
    """Files in which two artefacts differ."""
    left, right = content(one), content(other)
    return [name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)]


def undisturbed(soak: Soak) -> list[str]:
    """Build the upstream as it is now in a fresh root, and name what differs from the soaked one."""
    calm = Soak(soak.folder, soak.random, "process")
    fresh = soak.folder / "undisturbed"
    soaked = latest(soak.lake / "releases" / "soak")
    assert soaked is not None
    soak.lake.rename(soak.folder / "soaked")
    try:
        assert calm.run("none")
        soak.lake.rename(fresh)
    finally:
        (soak.folder / "soaked").rename(soak.lake)
    found = [f"release: {name}" for name in differing(soaked, fresh / soaked.relative_to(soak.lake))]
    sources: Mapping[str, str] = json.loads((soaked / "manifest.json").read_bytes())["inputs"]["sources"]
    for name, fingerprint in sources.items():
        place = Path("sources") / name / fingerprint
        found += [f"{name}: {file}" for file in differing(soak.lake / place, fresh / place)]
    return found


def main() -> int:
    """Soak; returns 1 when the end is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtime", choices=("ray", "process"), default="ray")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        soak = Soak(Path(name), random.Random(settings.seed), settings.runtime)
        (soak.folder / "soak.yaml").write_text("name: soak\ndedup: {}\nguard: {max_drop_share: 1.0}\n")
        generate(soak.upstream)
        started = time.monotonic()
        while time.monotonic() - started < settings.minutes * 60:
            soak.round()
            print(f"{(time.monotonic() - started) / 60:5.1f} min  {dict(soak.counts)}", file=sys.stderr, flush=True)
        folder = latest(soak.lake / "releases" / "soak")
        assert folder is not None
        problems = list(verify(folder, InProcessPool()).problems)
        problems += [f"left behind: {path}" for path in soak.lake.glob("work/*")]
        problems += [f"differs: {place}" for place in undisturbed(soak)]
        for release in soak.lake.glob("releases/soak/*/manifest.json"):
            assert_balanced(release.parent)
        minutes = round((time.monotonic() - started) / 60, 1)
        told = {"name": "soak", "runtime": settings.runtime, "minutes": minutes, **dict(sorted(soak.counts.items()))}
        print(json.dumps({**told, "problems": problems}))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
