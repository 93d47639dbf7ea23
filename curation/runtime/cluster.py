"""The Ray that a run works on: started here, or a running cluster whose machines are looked over before they get work.

Tasks read and write files by their paths, so a machine of a cluster gets work only if it sees the same files as this one: the
root (or, for a root in object storage, its mirror) and the folders of the sources, on a disk that both share. It must also
have the same versions of the packages that decide bytes. Machines that do not are left out, which the run says. This
project's own code is sent along.
"""

import logging
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import curation
from curation.errors import ConfigurationError
from curation.runtime.settings import RuntimeSettings, Share

NODE_LABEL = "ray.io/node-id"
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray where this process was submitted as a job, whose runtime environment holds the code already."""

LOOK_SECONDS = 120.0
_STARTER = ThreadPoolExecutor(1, "ray-starter")
_DECIDING_PACKAGES = ("numpy", "orjson", "pillow", "polars", "pyarrow")
_SAME_SECONDS = 1
_ROUNDING = 1e-9
_WORKER_SETTINGS = {
    # One polars thread a task: Ray already runs a task on each CPU.
    "POLARS_MAX_THREADS": "1",
    # Workers build and free a chunk again and again; keeping the pages saves a tenth of ingestion's time (glibc only).
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A path that a task may read, and when it last changed, seconds: two disks with the same name are told apart by that."""

    path: str
    modified: float

    @classmethod
    def of(cls, path: Path) -> "Place":
        """`path` as this machine sees it now."""
        return cls(str(path), path.stat().st_mtime)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is alive: what it is called, and what Ray may give away of it; `memory` in bytes."""

    node_id: str
    name: str
    cpus: float
    memory: float
    gpus: float = 0.0

    @classmethod
    def of(cls, node_id: str, name: str, resources: Mapping[str, float]) -> "Machine":
        """The machine with these resources of Ray's."""
        return cls(node_id, name, *(float(resources.get(kind, 0)) for kind in ("CPU", "memory", "GPU")))

    def room_for(self, share: Share) -> int:
        """How many that each take `share` fit at once."""
        asked = ((self.cpus, share.cpus), (self.memory, share.memory or 0), (self.gpus, share.num_gpus))
        return min(int(has / wants + _ROUNDING) for has, wants in asked if wants)

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.name}: {self.cpus:g} CPUs, {self.memory / 2**30:.1f} GiB{gpus}"


def start_ray(settings: RuntimeSettings) -> None:
    """Join the cluster of `settings` or start Ray embedded, quietly; does nothing when Ray runs already.

    Several sources may ask at once, from threads that end with their task. Ray's processes die with the thread that started
    them, so they are started by one that lives as long as this process. Raises ConfigurationError when no cluster answers.
    """
    _STARTER.submit(_start_ray, settings).result()


def stop_ray() -> None:
    """Leave the cluster, or stop the embedded Ray; does nothing when Ray does not run."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


def _start_ray(settings: RuntimeSettings) -> None:
    import ray

    if ray.is_initialized():
        return
    # Without the last, a thread that asks Ray for something after it was stopped would start another one.
    quietly = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_ENABLE_AUTO_CONNECT": "0"}
    for name, value in quietly.items():
        os.environ.setdefault(name, value)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if settings.address is not None:
        try:
            ray.init(settings.address, runtime_env=_runtime_env(settings), **quiet)
        except (ConnectionError, ValueError) as problem:
            raise ConfigurationError(
                f"no Ray cluster to join at '{settings.address}': {problem}; start one with `ray start --head`, or leave out "
                "the address to work on this machine alone"
            ) from None
        return
    for name, value in _WORKER_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # embedded: bound to loopback
    ray.init(include_dashboard=False, num_cpus=settings.workers, object_store_memory=settings.object_store, **quiet)


def _runtime_env(settings: RuntimeSettings) -> dict[str, Any]:
    """What workers on other machines get: the code of this project, no data, and settings of libraries."""
    environment: dict[str, Any] = {"env_vars": dict(_WORKER_SETTINGS)}
    if settings.ship == "code" and JOB_VARIABLE not in os.environ:
        environment |= {"py_modules": [str(Path(curation.__file__).parent)], "excludes": ["**/__pycache__/"]}
    return environment


# --- Looking machines over ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """What a worker finds on its machine: versions of packages, and what is wrong with the places it was asked for."""

    versions: dict[str, str]
    missing: str | None


def look_around(places: Sequence[Place]) -> View:
    """The view from where this runs. Runs on every machine of a cluster."""
    return View(_versions(), next((problem for place in places if (problem := _problem(place))), None))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _DECIDING_PACKAGES}


def _problem(place: Place) -> str | None:
    try:
        modified = Path(place.path).stat().st_mtime
    except OSError as problem:
        return f"{place.path}: {problem.strerror}"
    return None if abs(modified - place.modified) <= _SAME_SECONDS else f"{place.path} is another one there"


class Cluster:
    """The machines of a running cluster that can do the work of a run whose files lie at `root` and `folders`."""

    def __init__(self, root: Path | None, folders: Sequence[Path], note: Callable[[str], None]) -> None:
        self._root = root
        self._folders = folders
        self._note = note
        self._problems: dict[str, str | None] = {}

    def machines(self) -> list[Machine]:
        """Machines that are alive and fit, by name; new ones are looked over first.

        Raises ConfigurationError when there is none, saying what is wrong with each.
        """
        alive = _alive()
        fresh = [machine for machine in alive if machine.node_id not in self._problems]
        if fresh:
            self._look_over(fresh)
        fit = [machine for machine in alive if self._problems[machine.node_id] is None]
        if not fit:
            told = "; ".join(f"{machine.name}: {self._problems[machine.node_id]}" for machine in alive) or "none is alive"
            raise ConfigurationError(
                f"no machine of the Ray cluster can do this run's work ({told}). Put the root (for one in object storage: "
                "CURATION_CACHE) and the sources on a disk that all machines share, and install the same packages there"
            )
        return fit

    def _look_over(self, machines: Sequence[Machine]) -> None:
        import ray

        nonce = self._root / f".seen-{uuid.uuid4().hex}" if self._root else None
        if nonce is not None:
            nonce.touch()
        try:
            places = [Place.of(path) for path in (*([nonce] if nonce else []), *self._folders) if path.exists()]
            look = ray.remote(num_cpus=0, max_retries=0)(look_around)
            asked = {machine: look.options(label_selector={NODE_LABEL: machine.node_id}).remote(places) for machine in machines}
            for machine, answer in asked.items():
                try:
                    problem = _unfit(ray.get(answer, timeout=LOOK_SECONDS))
                except ray.exceptions.RayError as error:
                    problem = f"a first task failed there ({str(error).strip().splitlines()[0]})"
                self._problems[machine.node_id] = problem
                if problem is not None:
                    self._note(f"cluster: {machine.name} gets no work: {problem}")
        finally:
            if nonce is not None:
                nonce.unlink(missing_ok=True)


def _unfit(view: View) -> str | None:
    differing = [f"{name} {view.versions[name]}, {own} here" for name, own in _versions().items() if view.versions[name] != own]
    return view.missing or "; ".join(differing) or None


def _alive() -> list[Machine]:
    import ray

    found = [
        Machine.of(str(node["NodeID"]), f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", node["Resources"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    return sorted(found, key=lambda machine: (machine.name, machine.node_id))
