"""The deployments on a real Prefect server, with a worker that picks them up."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from flows.demo.world import generate
from tests.end_to_end.conftest import REPOSITORY

pytestmark = pytest.mark.slow
_STARTUP_SECONDS = 120


class Prefect:
    """A server on loopback and a process worker, with the project's deployments."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        generate(folder / "upstream")
        self.folder = folder
        self._log = (folder / "log").open("w")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "CURATION_DEMO_DATA": str(folder / "upstream"),
            "CURATION_RUNTIME": "process",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PYTHONPATH": str(REPOSITORY),
        }
        self._start("server", "start", "--host", "127.0.0.1", "--port", str(port))
        self._wait_for(f"http://127.0.0.1:{port}/api/health")
        self.prefect("work-pool", "create", "curation", "--type", "process")
        self.prefect("--no-prompt", "deploy", "--all", "--prefect-file", "flows/prefect.yaml")
        self._start("worker", "start", "--pool", "curation")

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prefect", *arguments]
        done = subprocess.run(command, cwd=REPOSITORY, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def release(self) -> dict[str, Path]:
        """Run the deployment `release` on the demo; the releases there are then, and the newest under 'latest'."""
        settings = {"mixture": "mixtures/demo.yaml", "root": self.folder / "lake", "catalog": "flows/demo/catalog.yaml"}
        parameters = [part for name, value in settings.items() for part in ("-p", f"{name}={value}")]
        self.prefect("deployment", "run", "release/release", *parameters, "--watch")
        parent = self.folder / "lake" / "releases" / "demo"
        newest = json.loads((parent / "latest.json").read_text())["fingerprint"]
        return {path.name: path for path in parent.iterdir() if path.is_dir()} | {"latest": parent / newest}

    def artifact(self, key: str) -> list[dict[str, object]]:
        """Rows of the newest table artifact with this key."""
        shown = json.loads(self.prefect("artifact", "inspect", key, "--limit", "10", "--output", "json").stdout)
        newest = max(shown, key=lambda artifact: artifact["created"])
        rows: list[dict[str, object]] = json.loads(newest["data"])
        return rows

    def stop(self) -> None:
        for process in reversed(self._processes):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._log.close()

    def _start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", *arguments]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        self._processes.append(process)

    @staticmethod
    def _wait_for(url: str) -> None:
        for _ in range(_STARTUP_SECONDS):
            try:
                urlopen(url).close()
            except (URLError, ConnectionError):
                time.sleep(1)
            else:
                return
        raise AssertionError(f"{url} did not answer within {_STARTUP_SECONDS} s")


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    running = Prefect(tmp_path_factory.mktemp("server"))
    try:
        yield running
    finally:
        running.stop()


def test_a_worker_publishes_when_something_changed_and_only_then(prefect: Prefect):
    first = prefect.release()
    assert len(first) == 2
    ingested = {path: path.stat().st_mtime_ns for path in (prefect.folder / "lake" / "sources").glob("*/*/manifest.json")}

    again = prefect.release()
    assert again == first, "nothing new, no new release"

    chats = prefect.folder / "upstream" / "small-talk"
    [file] = sorted(chats.glob("*.jsonl"))[:1]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[1:]))
    changed = prefect.release()
    assert len(changed) == 3
    assert changed["latest"] not in first.values()
    manifests = (prefect.folder / "lake" / "sources").glob("*/*/manifest.json")
    fresh = {path.parts[-3] for path in manifests if path not in ingested}
    assert fresh == {"small-talk"}, "only the source that changed is ingested again"
    assert all(path.stat().st_mtime_ns == time for path, time in ingested.items())

    rows = {str(row["source"]): row for row in prefect.artifact("diff-demo")}
    assert rows["small-talk"]["leaving"] or rows["small-talk"]["entering"]
    assert rows["scenes"]["entering"] == rows["scenes"]["leaving"] == 0, "another category's picks stay"
    life = prefect.artifact("conservation-demo")
    assert all(row["records"] == row["samples"] + _total(row["rejected"]) for row in life)


def _total(reasons: object) -> int:
    return sum(int(part.rsplit(" ", 1)[1].replace(",", "")) for part in str(reasons).split(", ") if part)
