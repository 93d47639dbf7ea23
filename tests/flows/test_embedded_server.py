"""Laws of the Prefect server of one command: there when told, gone with its parent, and out of the way of others."""

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from flows.embedded_server import EmbeddedServerError, embedded_server

_KILLED = """
import os, signal
from flows.embedded_server import embedded_server
with embedded_server():
    children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read()
    print(children, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of Prefect's of its own, and no setting from outside."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_the_server_answers_when_it_is_ready_and_is_gone_after_the_block():
    with embedded_server() as ready:
        url = f"{os.environ['PREFECT_API_URL']}/health"
        ready()
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200
    assert "PREFECT_API_URL" not in os.environ
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes under /proc")
def test_the_server_ends_with_a_command_that_is_killed(home: Path):
    repository = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED], env=environment, cwd=home, stdout=subprocess.PIPE, text=True, check=False
    )
    server = Path("/proc", killed.stdout.split()[0])
    deadline = time.monotonic() + 240
    while server.exists() and "embedded_server" in (server / "cmdline").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.exists() or "embedded_server" not in (server / "cmdline").read_text()


@pytest.mark.parametrize("setting", ["PREFECT_API_URL", "PREFECT_PROFILE", "profiles.toml", "prefect.toml", ".env"])
def test_settings_of_the_users_own_are_left_to_prefect(setting: str, home: Path, monkeypatch: pytest.MonkeyPatch):
    if setting.isupper():
        monkeypatch.setenv(setting, "http://127.0.0.1:1/api")
    else:
        (home / setting).touch()
    before = dict(os.environ)
    with embedded_server() as ready:
        ready()
        assert dict(os.environ) == before


@pytest.mark.usefixtures("home")
def test_a_server_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch, home: Path):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with embedded_server() as ready, pytest.raises(EmbeddedServerError, match="did not start"):
        ready()
