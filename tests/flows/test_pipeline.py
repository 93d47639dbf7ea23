"""The flows themselves, each in a process of its own: Prefect's threads are no company for tests that fork."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.curation.steps.test_ingest_release import shared_release

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
