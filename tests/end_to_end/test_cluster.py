"""The demo's build on clusters: two nodes, a submitted job, and everything that can die; always the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from benchmarks.processes import ray_tasks
from tests.end_to_end.conftest import MIXTURE, REPOSITORY, Built, Curate
from tests.end_to_end.test_build import tree
from tests.support.poisoned import poison, poisonous
from tests.support.ray_nodes import RayNodes, can_hide_folders, free_port, ray_nodes

pytestmark = [pytest.mark.slow, pytest.mark.extra]
_PATIENCE_SECONDS = 240


@pytest.fixture(scope="module")
def nodes(curate: Curate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """A head, and a second node with an address of its own; neither has this project installed or on its path."""
    folder = tmp_path_factory.mktemp("nodes")
    environment = {"CURATION_DEMO_DATA": curate.environment["CURATION_DEMO_DATA"], "PYTHONPATH": ""}
    with ray_nodes(folder, **environment) as found:
        found.start_head(dashboard_port=free_port())
        found.join("127.0.0.2")
        yield found


def on_ray(nodes: RayNodes | None) -> dict[str, str]:
    """The environment of a command on a cluster, or on a Ray of its own."""
    settings = {"CURATION_RUNTIME": "ray", "RAY_AUTH_MODE": "disabled"}
    return settings if nodes is None else {**settings, "RAY_ADDRESS": nodes.address}


def started(curate: Curate, root: Path, nodes: RayNodes | None, **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        curate.command(("build", MIXTURE), root),
        env={**curate.environment, **on_ray(nodes), **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(is_time: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_time():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def release_of(process: subprocess.Popen[str]) -> Path:
    out, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    return Path(out.strip().splitlines()[-1])


def test_two_nodes_give_the_same_bytes_and_survive_a_killed_worker(
    curate: Curate, built: Built, nodes: RayNodes, tmp_path: Path
) -> None:
    process = started(curate, tmp_path, nodes)
    homes = [node.pid for node in nodes.processes]
    at_work: list[int] = []
    wait_until(lambda: bool(at_work.extend(ray_tasks(homes)) or at_work), process)
    os.kill(at_work[0], signal.SIGKILL)
    assert tree(release_of(process)) == tree(built.release)
    assert not list(tmp_path.glob(".seen-*"))


def test_a_submitted_job_gives_the_same_bytes(curate: Curate, built: Built, nodes: RayNodes, tmp_path: Path) -> None:
    entry = [*curate.command(("build", MIXTURE), tmp_path)]
    runtime_env = {
        "working_dir": str(REPOSITORY),
        "excludes": ["/tests/", "/.venv/", "/.git/", "/docs/", "**/__pycache__/"],
        "env_vars": {"CURATION_DEMO_DATA": curate.environment["CURATION_DEMO_DATA"], "CURATION_RUNTIME": "ray"},
    }
    submit = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "job", "submit"]
    done = subprocess.run(
        [*submit, f"--address={nodes.dashboard}", f"--runtime-env-json={json.dumps(runtime_env)}", "--", *entry],
        env={**nodes.environment, "RAY_ADDRESS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [manifest] = tmp_path.glob("releases/demo/*/manifest.json")
    assert tree(manifest.parent) == tree(built.release)


def test_a_node_that_dies_is_done_without(curate: Curate, built: Built, nodes: RayNodes, tmp_path: Path) -> None:
    third = nodes.join("127.0.0.3")
    process = started(curate, tmp_path, nodes)
    wait_until(lambda: bool(ray_tasks([third.pid])), process)
    nodes.kill(third)
    assert tree(release_of(process)) == tree(built.release)


@pytest.mark.skipif(not can_hide_folders(), reason="needs the right to make mount namespaces")
def test_a_node_that_does_not_see_the_root_gets_no_work(curate: Curate, built: Built, nodes: RayNodes, tmp_path: Path) -> None:
    blind = nodes.join("127.0.0.4", hidden=tmp_path)
    try:
        process = started(curate, tmp_path / "lake", nodes)
        out, errors = process.communicate(timeout=_PATIENCE_SECONDS)
        assert process.returncode == 0, errors
        assert "gets no work" in errors
        assert "(127.0.0.4)" in errors
        assert tree(Path(out.strip().splitlines()[-1])) == tree(built.release)
    finally:
        nodes.kill(blind)


def test_a_killed_driver_a_small_store_and_a_deadly_picture(curate: Curate, built: Built, tmp_path: Path) -> None:
    """On a Ray of its own: with the smallest object store Ray takes, killed once, over a world with one deadly picture."""
    upstream = tmp_path / "upstream"
    shutil.copytree(curate.environment["CURATION_DEMO_DATA"], upstream)
    runtime = tmp_path / "runtime.yaml"
    runtime.write_text("workers: 2\nobject_store: 76MiB\ntask: {retries: 2}\n")
    for deadly in sorted((upstream / "receipts").glob("img/*.jpg"))[:4]:  # one of them at least is named by a sound record
        deadly.write_bytes(poison())
    environment = poisonous(CURATION_RUNTIME_FILE=str(runtime), CURATION_DEMO_DATA=str(upstream))
    extra = {name: environment[name] for name in ("PYTHONPATH", "CURATION_RUNTIME_FILE", "CURATION_DEMO_DATA")}
    root = tmp_path / "lake"
    process = started(curate, root, None, **extra)
    wait_until(lambda: len(list(root.glob("sources/*/*/samples-*.parquet"))) > 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    release = release_of(started(curate, root, None, **extra))

    conservation = json.loads((release / "manifest.json").read_bytes())["conservation"]
    assert conservation["receipts"]["rejected"]["crashed_decoder"] >= 1
    for name, counts in conservation.items():
        assert counts["records"] == counts["samples"] + sum(counts["rejected"].values()), name
        assert counts["samples"] == counts["kept"] + sum(counts["dropped"].values()), name
    rejected = pl.read_parquet(list(root.glob("sources/receipts/*/rejected-*.parquet"))).filter(reason="crashed_decoder")
    found = json.loads(curate("why", rejected["record_id"][0], "--json", root=root).stdout)["found"]
    assert [life["rejected"]["reason"] for life in found] == ["crashed_decoder"]
    assert built.release.name != release.name
