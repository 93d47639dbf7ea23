"""Ray clusters of real nodes on this machine, each with an address of its own and processes that can be killed as one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STARTUP_SECONDS = 90
_RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block", "--disable-usage-stats"]
_STORE_BYTES = 80_000_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class RayNodes:
    """A head node and others that join it; `environment` lets a process join."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._temporary = Path("/tmp") / f"ray-{os.getpid()}-{free_port()}"  # socket paths are short
        self._log = (folder / "ray.log").open("a")
        self._environment = {**os.environ, **environment, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = f"127.0.0.1:{free_port()}"
        self.dashboard = ""

    @property
    def environment(self) -> dict[str, str]:
        return {**self._environment, "RAY_ADDRESS": self.address}

    def start_head(self, num_cpus: int = 1, *, dashboard_port: int | None = None) -> None:
        host, port = self.address.split(":")
        dashboard = ["--include-dashboard=false"]
        if dashboard_port is not None:
            self.dashboard = f"http://127.0.0.1:{dashboard_port}"
            dashboard = ["--include-dashboard=true", f"--dashboard-port={dashboard_port}"]
        where = ["--head", f"--port={port}", f"--node-ip-address={host}", f"--temp-dir={self._temporary}", *dashboard]
        self._start([*_RAY, *where, f"--num-cpus={num_cpus}"])
        self.wait_for("")  # Ray gives a head another name than loopback's

    def join(self, host: str, num_cpus: int = 1, *, hidden: Path | None = None) -> subprocess.Popen[bytes]:
        """A node at `host`; one that is not to see a folder has another, empty one mounted over it."""
        command = [*_RAY, f"--address={self.address}", f"--node-ip-address={host}", f"--num-cpus={num_cpus}"]
        if hidden is not None:
            inner = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inner, str(hidden), *command]
        process = self._start(command)
        self.wait_for(host)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a whole node: all its processes at once."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_for(self, host: str) -> None:
        """Wait until the node at `host` has joined, "" for any: counts would tell of killed ones for a while yet."""
        ask = (
            "import ray, sys, logging; ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR);"
            "sys.exit(not any(node['Alive'] and node['NodeManagerAddress'].startswith(sys.argv[2]) for node in ray.nodes()))"
        )
        deadline = time.monotonic() + _STARTUP_SECONDS
        command = [sys.executable, "-c", ask, self.address, host]
        while subprocess.run(command, env=self._environment, stderr=self._log, stdout=self._log, check=False).returncode:
            assert time.monotonic() < deadline, f"no node at {host} after {_STARTUP_SECONDS} s; see ray.log"
            time.sleep(0.5)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)
        self._log.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True)
        self.processes.append(process)
        return process


@contextmanager
def ray_nodes(folder: Path, **environment: str) -> Iterator[RayNodes]:
    """A cluster without nodes yet; all are killed when the block ends."""
    nodes = RayNodes(folder, environment)
    try:
        yield nodes
    finally:
        nodes.stop()


def can_hide_folders() -> bool:
    """Whether this process may give children a view of the files of their own."""
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode
    )
