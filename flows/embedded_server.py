"""A Prefect server for one command, started while the command still imports what it needs, and gone when it ends.

Prefect would start one by itself, at the first flow and after importing its own server twice; this takes half the time. The
server listens on a socket handed down by the command, so no port is guessed and no one polls: a request waits until it is
answered. It leaves when its standard input ends, which happens however the command ends, `kill -9` included.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import CurationError

if TYPE_CHECKING:
    import uvicorn

_STARTUP_SECONDS = 90.0
"""A cold start took 15 seconds on two busy cores."""
_SETTINGS = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""What Prefect sets for the servers it embeds."""


class EmbeddedServerError(CurationError):
    """The embedded Prefect server did not come up."""


@contextmanager
def embedded_server() -> Iterator[Callable[[], None]]:
    """A Prefect server while the block runs, named by `PREFECT_API_URL`; call what this gives before the first flow.

    The call returns once the server answers, and raises EmbeddedServerError when it does not. Where the user has a server, or
    any setting of Prefect's, nothing is started: those are for Prefect to read.
    """
    if "PREFECT_API_URL" in os.environ or _is_configured():
        yield lambda: None
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        server = _start(listening)
    os.environ["PREFECT_API_URL"] = url
    try:
        yield lambda: _wait(url)
    finally:
        del os.environ["PREFECT_API_URL"]
        _stop(server)


def _wait(url: str) -> None:
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=_STARTUP_SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError as problem:
        raise EmbeddedServerError(
            f"Prefect's embedded server did not start ({type(problem).__name__}: {problem}); its own words are above, or point "
            "PREFECT_API_URL at a server that runs"
        ) from None


def _is_configured() -> bool:
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    return profiles.exists() or "PREFECT_PROFILE" in os.environ or any(Path(name).exists() for name in ("prefect.toml", ".env"))


def _start(listening: socket.socket) -> subprocess.Popen[bytes]:
    descriptor = listening.fileno()
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(descriptor)],
        env={**os.environ, **_SETTINGS},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,  # Ctrl-C is for the command, whose flows tell the server how they ended
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _serve(descriptor: int) -> None:
    """Serve on the listening socket `descriptor` until standard input ends."""
    import uvicorn

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    threading.Thread(target=_leave_with_parent, args=(server,), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])


def _leave_with_parent(server: "uvicorn.Server") -> None:
    sys.stdin.buffer.read()
    if not server.started:
        os._exit(1)  # nothing was asked of it yet
    logging.disable()  # the end cancels whatever it is at, which its database logs as an error
    server.should_exit = True


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
