"""Two builds on one root at once, in a folder and in object storage; and one that is stopped by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from curation.catalog.file import load_catalog
from curation.inspection.lookup import find_release
from curation.inspection.verification import verify
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool
from curation.storage import mirror as mirror_module
from curation.storage.store import Store
from tests.end_to_end.conftest import REPOSITORY, Curate
from tests.support.s3 import Faults, s3_server
from tests.support.upstream import build, content, write_files, write_world

pytestmark = pytest.mark.slow
_PATIENCE_SECONDS = 120


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A catalog of small sources, with two mixtures beside it."""
    write_world(tmp_path / "up")
    write_files(tmp_path / "up", {"all.yaml": "name: all\n", "few.yaml": "name: few\ncap: 5\n"})
    return tmp_path / "up"


BUILD = """
import sys
from pathlib import Path
from curation.catalog.file import load_catalog
from curation.mixture.file import load_mixture
from curation.storage.store import Store, address
from tests.support.upstream import build
catalog, store = load_catalog(Path(sys.argv[1], "catalog.yaml")), Store.open(sys.argv[2])
with store.single_writer():
    print(address(build(catalog, store, load_mixture(Path(sys.argv[1], sys.argv[3]), catalog)).folder))
"""


def started(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def building(world: Path, root: str, mixture: str, **extra: str) -> subprocess.Popen[str]:
    """A build under the lock of its root, as flows do it, in a process of its own."""
    command = [sys.executable, "-c", BUILD, str(world), root, mixture]
    return started(command, {**os.environ, "PYTHONPATH": str(REPOSITORY), **extra})


def released(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    return out.strip().splitlines()[-1]


def alone(world: Path, root: Path) -> Path:
    """The release `all`, built by nobody else and never interrupted."""
    return build(load_catalog(world / "catalog.yaml"), Store.open(str(root)), Mixture(name="all")).folder


def test_two_mixtures_at_once_share_their_sources(world: Path, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    both = [building(world, str(root), mixture) for mixture in ("all.yaml", "few.yaml")]
    for process in both:
        folder = Path(released(process))
        assert verify(folder, InProcessPool()).problems == []
    assert all(len(list(path.glob("*/manifest.json"))) == 1 for path in (root / "sources").iterdir())
    assert len(list(root.glob("releases/*/*/manifest.json"))) == 2
    assert not any((root / "work").iterdir())
    assert content(find_release(Store.at(str(root)), "all")) == content(alone(world, tmp_path / "alone"))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    mirror_module._objects.cache_clear()
    with s3_server(monkeypatch) as faults:
        yield faults
    mirror_module._objects.cache_clear()


def test_two_machines_build_the_same_release_in_object_storage(
    world: Path, s3: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    root = "s3://lake/shared"
    own = [{"CURATION_CACHE": str(tmp_path / name), "CURATION_LEASE_SECONDS": "5", **aws} for name in ("one", "two")]
    both = [building(world, root, "all.yaml", **extra) for extra in own]
    first, second = (released(process) for process in both)
    assert first == second
    monkeypatch.setenv("CURATION_CACHE", str(tmp_path / "three"))
    release = find_release(Store.at(root), "all")
    assert verify(release, InProcessPool()).problems == []
    manifests = [json.loads(path.read_bytes()) for path in tmp_path.glob("*/*/releases/all/*/manifest.json")]
    assert len(manifests) == 3
    assert len({manifest["created"] for manifest in manifests}) == 1, "made once, brought to the others"


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(curate: Curate, world: Path, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    command = curate.command(("build", str(world / "all.yaml")), root)
    command[command.index("--catalog") + 1] = str(world / "catalog.yaml")
    process = started(command, {**curate.environment, "CURATION_RUNTIME": "ray"})
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not list(root.glob("sources/*/*/manifest.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to Ray and the embedded server too
    _, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    assert process.returncode == 130, errors
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    release = Path(released(building(world, str(root), "all.yaml")))
    assert content(release) == content(alone(world, tmp_path / "alone"))
