"""The deployments on a real Prefect server, with a worker that picks them up."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import httpx
import pytest

from flows.demo.world import generate
from tests.end_to_end.conftest import REPOSITORY
from tests.support.http_server import serving

pytestmark = pytest.mark.slow
_STARTUP_SECONDS = 300


class Prefect:
    """A server on loopback and a process worker, with the project's deployments."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        generate(folder / "upstream")
        self.folder = folder
        self.api = f"http://127.0.0.1:{port}/api"
        self._log = (folder / "log").open("w")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "CURATION_ALLOW_PRIVATE_HOSTS": "1",
            "CURATION_DEMO_DATA": str(folder / "upstream"),
            "CURATION_RUNTIME": "process",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "PREFECT_API_URL": self.api,
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
        parameters = [part for name, value in self.settings.items() for part in ("-p", f"{name}={value}")]
        self.prefect("deployment", "run", "release/release", *parameters, "--watch")
        parent = self.folder / "lake" / "releases" / "demo"
        newest = json.loads((parent / "latest.json").read_text())["fingerprint"]
        return {path.name: path for path in parent.iterdir() if path.is_dir()} | {"latest": parent / newest}

    @property
    def settings(self) -> dict[str, str]:
        """Parameters of the flows that make a release of the demo."""
        return {"mixture": "mixtures/demo.yaml", "root": str(self.folder / "lake"), "catalog": "flows/demo/catalog.yaml"}

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """An answer of the server's API, asked again while its SQLite file is locked, as Prefect's own clients do."""
        deadline = time.monotonic() + _STARTUP_SECONDS
        while True:
            done = httpx.request(method, f"{self.api}/{path}", json=body, timeout=30)
            if done.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                done.raise_for_status()
                return done.json()
            time.sleep(0.5)

    def states(self, task: str) -> list[str | None]:
        """Names of the states that the runs of a task are in; none for a run that the server has just heard of."""
        found = self.ask("POST", "task_runs/filter", {"task_runs": {"name": {"any_": [task]}}})
        return [run["state_name"] for run in found]

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


def test_deployments_have_forms_tags_and_limits(prefect: Prefect):
    found = {one["name"]: one for one in prefect.ask("POST", "deployments/filter", {})}
    assert set(found) == {"ingest", "curate", "build_mixture", "release", "train"}
    for name, deployment in found.items():
        assert deployment["tags"]
        assert deployment["global_concurrency_limit"]["limit"] == 1
        fields = deployment["parameter_openapi_schema"]["properties"]
        assert all(field["description"] and field.get("type", field.get("items")) for field in fields.values()), name
    form = found["release"]["parameter_openapi_schema"]
    assert form["required"] == ["mixture"]
    assert form["properties"]["quiet"] == {**form["properties"]["quiet"], "type": "boolean", "default": False}


def test_a_cancelled_run_leaves_nothing_half_published(prefect: Prefect):
    deployment = prefect.ask("GET", "deployments/name/release/release")["id"]
    run = prefect.ask("POST", f"deployments/{deployment}/create_flow_run", {"parameters": prefect.settings})["id"]
    lake = prefect.folder / "lake"
    wait_until(lambda: len(list(lake.glob("sources/*/*/samples-*.parquet"))) > 1)
    prefect.ask("POST", f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_until(lambda: prefect.ask("GET", f"flow_runs/{run}")["state"]["type"] == "CANCELLED")
    assert prefect.ask("GET", f"flow_runs/{run}")["name"] == "release mixtures/demo.yaml"
    wait_until(is_free(lake / ".writer.lock"))
    assert not list(lake.glob("releases/*/*"))
    for manifest in lake.glob("*/*/*/manifest.json"):
        assert json.loads(manifest.read_bytes())["fingerprint"] == manifest.parent.name


def is_free(lock: Path) -> Callable[[], bool]:
    """Whether no process holds `lock`."""

    def ask() -> bool:
        with lock.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    return ask


def wait_until(is_time: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    while not is_time():
        assert time.monotonic() < deadline
        time.sleep(0.1)


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
    names = {run["name"] for run in prefect.ask("POST", "task_runs/filter", {"limit": 200})}
    assert {"ingest small-talk", "clean scenes", "shard demo"} <= names
    progress = prefect.ask("POST", "artifacts/filter", {"artifacts": {"type": {"any_": ["progress"]}}})
    assert 100 in [float(artifact["data"]) for artifact in progress], "other tests' runs are stopped on their way"
    life = prefect.artifact("conservation-demo")
    assert all(row["records"] == row["samples"] + _total(row["rejected"]) for row in life)


def _total(reasons: object) -> int:
    return sum(int(part.rsplit(" ", 1)[1].replace(",", "")) for part in str(reasons).split(", ") if part)


@pytest.mark.extra
def test_what_cannot_be_fetched_is_tried_again_and_leakage_is_shown(prefect: Prefect, tmp_path: Path):
    """The deployment waits a minute before it asks a server again; in between the file arrives there."""
    questions = [{"q": f"what is the weight of stone number {number}", "a": f"{number} kilograms"} for number in range(20)]
    (tmp_path / "quiz.json").write_text(json.dumps(questions[:3]))
    mixture = tmp_path / "stones.yaml"
    mixture.write_text("name: stones\ndecontaminate: all\n")
    with serving() as server:
        row = {"category": "general", "layout": "qa", "fields": {"question": "q", "answer": "a"}}
        catalog = {
            "sources": {"stones": {**row, "license": "CC0-1.0", "location": {"http": [{"url": f"{server.url}/stones.json"}]}}},
            "benchmarks": {"quiz": {**row, "location": {"root": str(tmp_path), "files": "quiz.json"}}},
        }
        (tmp_path / "catalog.yaml").write_text(json.dumps(catalog))
        parameters = {"mixture": str(mixture), "root": str(tmp_path / "lake"), "catalog": str(tmp_path / "catalog.yaml")}
        deployment = prefect.ask("GET", "deployments/name/release/release")["id"]
        run = prefect.ask("POST", f"deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"]
        wait_until(lambda: prefect.states("ingest stones") == ["AwaitingRetry"])
        assert not list((tmp_path / "lake").glob("releases/*/*"))
        server.files["stones.json"] = json.dumps(questions).encode()
        wait_until(lambda: prefect.ask("GET", f"flow_runs/{run}")["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED"))
    assert prefect.ask("GET", f"flow_runs/{run}")["state"]["type"] == "COMPLETED"
    leakage = {row["source"]: row for row in prefect.artifact("leakage-stones")}
    assert set(leakage) == {"all sources", "stones"}
    assert (leakage["stones"]["benchmark"], leakage["stones"]["dropped"]) == ("quiz", 3)
    [life] = prefect.artifact("conservation-stones")
    assert (life["samples"], life["kept"]) == (20, 17)
