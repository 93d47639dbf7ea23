"""The flows themselves, each in a process of its own: Prefect's threads are no company for tests that fork."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from curation.run_log import runs
from curation.storage.store import Store, latest
from flows.demo.world import generate
from tests.curation.steps.test_ingest_release import shared_release
from tests.end_to_end.conftest import REPOSITORY

_INGEST = """
import json, sys
import pytest
from flows.embedded_server import embedded_server
from flows.environment import prepare_environment
from tests.curation.steps.test_ingest_release import Reads
prepare_environment()
with pytest.MonkeyPatch.context() as patch, embedded_server() as ready:
    from flows.pipeline import ingest
    reads = Reads(patch)
    ready()
    found = ingest(("others", "few"), sys.argv[1], sys.argv[2], quiet=True)
counts = {name: artefact.manifest["counts"]["samples"] for name, artefact in found.items()}
print(json.dumps({"samples": counts, "reads": reads.names}))
"""


@pytest.mark.extra
def test_an_ingest_run_reads_an_archive_that_its_sources_share_once(tmp_path: Path):
    shared_release(tmp_path / "up")
    settings = {"CURATION_RUNTIME": "process", "PREFECT_HOME": str(tmp_path / "prefect")}
    command = [sys.executable, "-c", _INGEST, str(tmp_path / "root"), str(tmp_path / "up" / "catalog.yaml")]
    done = subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found["samples"]) == ["others", "few"]
    assert sum(found["samples"].values()) == 14
    assert found["reads"] == ["coco.tar.gz"]


_TIMED_OUT = """
import sys
from flows.embedded_server import embedded_server
from flows.environment import prepare_environment
prepare_environment()
with embedded_server() as ready:
    from flows.pipeline import build
    ready()
    state = build.with_options(timeout_seconds=float(sys.argv[4]))(*sys.argv[1:4], quiet=True, return_state=True)
    print(state.name)
"""


@pytest.mark.extra
def test_a_build_that_takes_too_long_stops_and_can_be_taken_up(tmp_path: Path):
    generate(tmp_path / "upstream")
    settings = {
        "CURATION_DEMO_DATA": str(tmp_path / "upstream"),
        "CURATION_RUNTIME": "process",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    lake = tmp_path / "lake"

    def build(seconds: float) -> str:
        arguments = [
            str(REPOSITORY / "mixtures/demo.yaml"),
            str(lake),
            str(REPOSITORY / "flows/demo/catalog.yaml"),
            str(seconds),
        ]
        command = [sys.executable, "-c", _TIMED_OUT, *arguments]
        done = subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert build(1.5) == "TimedOut"
    [log] = runs(Store.at(str(lake)))
    assert log.outcome == "stopped"
    assert not list(lake.glob("releases/*/*"))
    assert build(600) == "Completed"
    assert latest(lake / "releases" / "demo")
