"""Where partitions of work are computed: in this process, or as Ray Core tasks on this machine or a cluster.

A task is a module-level function of one small argument (paths and settings, never rows or picture bytes); it writes its
result to disk under a name of its own and returns a summary. Results come back in the order of the arguments, so nothing
downstream can depend on which worker was faster.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from curation.errors import CurationError
from curation.runtime.progress import LineReporter, Reporter

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_STARTER = ThreadPoolExecutor(1, "ray-starter")
TASKS_AHEAD = 2
"""Tasks submitted for every CPU: enough to keep workers busy, few enough to keep the queue small."""


class Pool(Protocol):
    """Something that maps a function over partitions."""

    reporter: Reporter

    def map(self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """`[function(item) for item in items]`, computed wherever this pool computes. The first error is raised."""

    def close(self) -> None:
        """End what the pool started."""


class InProcessPool:
    """One partition after another in this process: for tests, tiny inputs and debugging."""

    def __init__(self, reporter: Reporter | None = None) -> None:
        self.reporter: Reporter = reporter or LineReporter(None)

    def map(self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """See Pool."""
        results: list[ResultT] = []
        with self.reporter.track(label, len(items)) as track:
            for item in items:
                results.append(function(item))
                track.advance(1)
        return results

    def close(self) -> None:
        """See Pool."""


class RayPool:
    """Ray Core tasks. Ray starts at the first map that has work, so a run that finds nothing to do stays quick.

    `RAY_ADDRESS` in the environment joins a running cluster; without it Ray runs embedded on this machine.
    """

    def __init__(self, reporter: Reporter | None = None, *, num_cpus: int | None = None) -> None:
        self.reporter: Reporter = reporter or LineReporter(None)
        self._num_cpus = num_cpus
        self._remotes: dict[Callable[..., Any], Any] = {}

    def map(self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """See Pool. A task whose worker dies is run again up to three times."""
        if not items:
            return []
        import ray

        start_ray(self._num_cpus)
        remote = self._remotes.setdefault(function, ray.remote(max_retries=3)(function))
        ahead = TASKS_AHEAD * max(1, int(_cluster_cpus()))
        results: dict[int, ResultT] = {}
        pending: dict[Any, int] = {}
        waiting = enumerate(items)
        with self.reporter.track(label, len(items)) as track:
            while len(results) < len(items):
                while len(pending) < ahead and (following := next(waiting, None)) is not None:
                    pending[remote.remote(following[1])] = following[0]
                ready, _ = ray.wait(list(pending))
                for reference in ready:
                    results[pending.pop(reference)] = _result(reference)
                    track.advance(1)
        return [results[number] for number in range(len(items))]

    def close(self) -> None:
        """Stop Ray."""
        stop_ray()


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as problem:
        cause = problem.cause
        if isinstance(cause, CurationError | OSError):
            raise cause from None
        raise


def _cluster_cpus() -> float:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 1.0)


def start_ray(num_cpus: int | None) -> None:
    """Join the cluster at RAY_ADDRESS or start Ray embedded, quietly; does nothing when Ray runs already.

    Several sources may ask at once, from threads that end with their task. Ray's processes die with the thread that started
    them, so they are started by one that lives as long as this process.
    """
    _STARTER.submit(_start_ray, num_cpus).result()


def stop_ray() -> None:
    """Leave the cluster, or stop the embedded Ray; does nothing when Ray does not run."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


def _start_ray(num_cpus: int | None) -> None:
    import ray

    if ray.is_initialized():
        return
    # One polars thread a task: Ray already runs a task on each CPU.
    settings = {"POLARS_MAX_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    # Workers build and free a chunk again and again; keeping the pages saves a tenth of ingestion's time (glibc only).
    settings |= {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(512 << 20)}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env={"env_vars": {"POLARS_MAX_THREADS": "1"}}, **quiet)
        return
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # embedded: bound to loopback
    ray.init(include_dashboard=False, num_cpus=num_cpus, object_store_memory=256 << 20, **quiet)
