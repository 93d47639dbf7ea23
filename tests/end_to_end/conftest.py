import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.demo.world import generate

REPOSITORY = Path(__file__).parents[2]
MIXTURE = str(REPOSITORY / "mixtures" / "demo.yaml")


@dataclass(frozen=True)
class Curate:
    """The command line, as a user runs it, over the demo's sources."""

    environment: Mapping[str, str]

    def __call__(self, *arguments: str, root: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(arguments, root), env={**self.environment, **extra}, capture_output=True, text=True, check=False
        )

    def command(self, arguments: tuple[str, ...], root: Path | None) -> list[str]:
        where = ["--root", str(root)] if root else []
        return [sys.executable, "-m", "flows", "--catalog", str(REPOSITORY / "flows/demo/catalog.yaml"), *where, *arguments]

    def kill_when(self, is_time: Callable[[], bool], *arguments: str, root: Path) -> bool:
        """Run a command and SIGKILL it and all its processes once `is_time`; whether it was still running."""
        process = subprocess.Popen(
            self.command(arguments, root),
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not is_time():
            time.sleep(0.01)
        was_running = process.poll() is None
        if was_running:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return was_running


@pytest.fixture(scope="session")
def curate(tmp_path_factory: pytest.TempPathFactory) -> Curate:
    folder = tmp_path_factory.mktemp("demo")
    generate(folder / "upstream")
    own = {
        "CURATION_DEMO_DATA": str(folder / "upstream"),
        "CURATION_RUNTIME": "process",
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": str(REPOSITORY),
        "NO_COLOR": "1",
    }
    return Curate({**os.environ, **own})


@dataclass(frozen=True)
class Built:
    root: Path
    release: Path


@pytest.fixture(scope="session")
def built(curate: Curate, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The demo's release, built in one process."""
    root = tmp_path_factory.mktemp("lake")
    done = curate("build", MIXTURE, root=root)
    assert done.returncode == 0, done.stderr
    return Built(root, Path(done.stdout.strip().splitlines()[-1]))
