"""Where partitions of work are computed: in this process, or as Ray Core tasks on this machine or a cluster.

A task is a module-level function of one small argument (paths and settings, never rows or picture bytes); it writes its
result to disk under a name of its own and returns a summary. Results come back in the order of the arguments, so nothing
downstream can depend on which worker was faster.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curation.errors import ConfigurationError, CurationError, WorkerError
from curation.runtime.cluster import NODE_LABEL, Cluster, Machine, start_ray, stop_ray
from curation.runtime.gate import CHECK_SECONDS, Gate
from curation.runtime.progress import LineReporter, Reporter
from curation.runtime.settings import RuntimeSettings, Share

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

TASKS_AHEAD = 2
"""Tasks submitted for every one that can run: enough to keep workers busy, few enough to keep the queue small."""
LOOK_AGAIN_SECONDS = 20.0
"""Of no task ending, after which the machines that hold tasks are counted."""


class Pool(Protocol):
    """Something that maps a function over partitions."""

    reporter: Reporter

    def map(self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """`[function(item) for item in items]`, computed wherever this pool computes. The first error is raised."""

    def map_with(self, make: Callable[[], Callable[[ItemT], ResultT]], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """Like `map`, by workers that each make their function once and keep it: for what is costly to load, as a model is."""

    def close(self) -> None:
        """End what the pool started."""


class InProcessPool:
    """One partition after another in this process: for tests, tiny inputs and debugging."""

    def __init__(self, reporter: Reporter | None = None) -> None:
        self.reporter: Reporter = reporter or LineReporter(None)
        self._gate = Gate()

    def map(self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """See Pool."""
        results: list[ResultT] = []
        with self._gate.passing(), self.reporter.track(label, len(items)) as track:
            for item in items:
                self._gate.check()
                results.append(function(item))
                track.advance(1)
        return results

    def map_with(self, make: Callable[[], Callable[[ItemT], ResultT]], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """See Pool."""
        return self.map(make(), items, label=label) if items else []

    def close(self) -> None:
        """See Pool."""
        self._gate.close()


class RayPool:
    """Ray Core tasks under `settings`. Ray starts at the first map that has work, so a run that finds nothing to do stays
    quick. `root` and `folders` are where tasks find their files: on a cluster, machines that do not see them get no work.
    """

    def __init__(
        self,
        reporter: Reporter | None = None,
        settings: RuntimeSettings | None = None,
        *,
        root: Path | None = None,
        folders: Sequence[Path] = (),
    ) -> None:
        self.reporter: Reporter = reporter or LineReporter(None)
        self.settings = settings or RuntimeSettings()
        self._remotes: dict[Callable[..., Any], Any] = {}
        self._cluster = Cluster(root, folders, self.reporter.note) if self.settings.is_cluster else None
        self._gate = Gate()

    def map(self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """See Pool. A task whose worker or machine dies is run again; raises WorkerError when that happens too often."""
        if not items:
            return []
        with self._gate.passing():
            start_ray(self.settings)
            machines = self._machines_for("task", self.settings.task)
            return self._mapped(self._remote(function, machines), items, label, machines)

    def _mapped(self, remote: Any, items: Sequence[Any], label: str, machines: Sequence[Machine]) -> list[Any]:
        import ray

        ahead = TASKS_AHEAD * sum(machine.room_for(self.settings.task) for machine in machines)
        results: dict[int, Any] = {}
        pending: dict[Any, int] = {}
        waiting = enumerate(items)
        silent_seconds = 0.0
        with self.reporter.track(label, len(items)) as track:
            while len(results) < len(items):
                self._gate.check()
                while len(pending) < ahead and (following := next(waiting, None)) is not None:
                    pending[remote.remote(following[1])] = following[0]
                ready, _ = ray.wait(list(pending), timeout=CHECK_SECONDS)
                for reference in ready:
                    results[pending.pop(reference)] = _result(reference, label)
                    track.advance(1)
                silent_seconds = 0.0 if ready else silent_seconds + CHECK_SECONDS
                if silent_seconds >= LOOK_AGAIN_SECONDS and self._cluster is not None:
                    silent_seconds = 0.0
                    _expect_any_alive(machines, self._cluster.machines())
        return [results[number] for number in range(len(items))]

    def map_with(self, make: Callable[[], Callable[[ItemT], ResultT]], items: Sequence[ItemT], *, label: str) -> list[ResultT]:
        """See Pool: by as many of the actors that `encoders` in the settings asks for as there is room for; one that dies is
        started again. Raises ConfigurationError when there is room for none."""
        if not items:
            return []
        start_ray(self.settings)
        import ray

        asked, retries = self.settings.encoders, self.settings.task.retries
        machines = self._machines_for("encoders", asked)
        # An actor that finds no room would never start, and hold its item for ever.
        room = sum(machine.room_for(asked) for machine in machines)
        if room < asked.actors:
            self.reporter.note(f"{label}: room for {room} of {asked.actors} encoders")
        remote = ray.remote(max_restarts=retries, max_task_retries=retries)(_Keeper)
        actor = remote.options(**self._options(asked, machines))
        actors: list[Any] = [actor.remote(make) for _ in range(min(len(items), asked.actors, room))]
        try:
            with self._gate.passing():
                return self._shared_out(actors, items, label)
        finally:
            for started in actors:
                ray.kill(started)

    def _shared_out(self, actors: list[Any], items: Sequence[Any], label: str) -> list[Any]:
        import ray

        results: dict[int, Any] = {}
        pending: dict[Any, tuple[int, Any]] = {}
        idle, waiting = list(actors), enumerate(items)
        with self.reporter.track(label, len(items)) as track:
            while len(results) < len(items):
                self._gate.check()
                while idle and (following := next(waiting, None)) is not None:
                    actor = idle.pop()
                    pending[actor.call.remote(following[1])] = following[0], actor
                ready, _ = ray.wait(list(pending), timeout=CHECK_SECONDS)
                for reference in ready:
                    place, actor = pending.pop(reference)
                    results[place] = _result(reference, label)
                    idle.append(actor)
                    track.advance(1)
        return [results[place] for place in range(len(items))]

    def close(self) -> None:
        """Stop Ray, once the threads that wait for it have left."""
        self._gate.close()
        stop_ray()

    def _remote(self, function: Callable[..., Any], machines: Sequence[Machine]) -> Any:
        import ray

        task = self.settings.task
        if function not in self._remotes:
            self._remotes[function] = ray.remote(max_retries=task.retries)(function)
        return self._remotes[function].options(**self._options(task, machines))

    def _options(self, share: Share, machines: Sequence[Machine]) -> dict[str, Any]:
        """`share` as Ray's options, and on a cluster the machines that may give it."""
        options: dict[str, Any] = {"num_cpus": share.cpus, "num_gpus": share.num_gpus}
        options |= {} if share.memory is None else {"memory": share.memory}
        if self._cluster is not None:
            options["label_selector"] = {NODE_LABEL: f"in({','.join(machine.node_id for machine in machines)})"}
        return options

    def _machines_for(self, key: str, share: Share) -> list[Machine]:
        """Those with room for `share`, what the settings say under `key`. Raises ConfigurationError when there is none."""
        import ray

        if self._cluster is not None:
            machines = self._cluster.machines()
        else:
            machines = [Machine.of("", "this machine", ray.cluster_resources())]  # type: ignore[no-untyped-call]
        found = [machine for machine in machines if machine.room_for(share)]
        if not found:
            raise ConfigurationError(
                f"`{key}` in the runtime settings asks for {share} each, and no machine has that "
                f"({'; '.join(map(str, machines))}); lower it"
            )
        return found


def _expect_any_alive(had: Sequence[Machine], has: Sequence[Machine]) -> None:
    if not {machine.node_id for machine in had} & {machine.node_id for machine in has}:
        raise WorkerError("all machines that held tasks are gone; what is finished is kept, run the same command again")


class _Keeper:
    """An actor: makes its function at the first call, so that what goes wrong then is told like any task's error."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._make = make
        self._function: Callable[[Any], Any] | None = None

    def call(self, item: Any) -> Any:
        if self._function is None:
            self._function = self._make()
        return self._function(item)


def _result(reference: Any, label: str) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as problem:
        cause = problem.cause
        if isinstance(cause, CurationError | OSError):
            raise cause from None
        raise
    except (
        ray.exceptions.ActorDiedError,
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.LocalRayletDiedError,
        ray.exceptions.RuntimeEnvSetupError,
    ) as problem:
        told = str(problem).strip().splitlines()[0]
        raise WorkerError(
            f"{label}: the worker of one task died again and again ({told}). What is finished is kept. If memory ran out, let "
            "fewer tasks run at once (`workers` or `task: {memory: ...}` in the runtime settings); run the same command again"
        ) from None
