"""One log a run, as JSON lines: `runs/<run>.jsonl` below the root says what a command did, step by step, and how it ended.

A line is one event, appended and flushed whole, so that a killed run leaves a log that ends early and nothing worse. Logs are
for people and monitors: no step reads them, no fingerprint or release holds anything of them. In object storage, which
cannot append, the log is written whole again every few seconds and at the end.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from curation.errors import StoreError
from curation.fetch.addresses import without_secrets
from curation.steps.step import Artefact, versions
from curation.storage.mirror import mirror_of
from curation.storage.store import Store

RUNS = "runs"
SCHEMA_VERSION = 1
UPLOAD_SECONDS = 5.0
RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
logger = logging.getLogger("curation.runs")
Outcome = Literal["done", "failed", "stopped"]
Counters = dict[str, Any]


class RunLog:
    """The log of one run under way. Safe to use from several threads."""

    def __init__(self, store: Store, command: str, arguments: Mapping[str, Any]) -> None:
        began = datetime.now(UTC)
        self.run = f"{began:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self.path = store.root / RUNS / f"{self.run}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._root = store.root
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._uploaded = float("-inf")
        self._totals: Counters = {}
        self._write(
            "run_started",
            schema_version=SCHEMA_VERSION,
            command=command,
            arguments={name: value for name, value in arguments.items() if value not in (None, (), [], "", False)},
            host=socket.gethostname(),
            process=os.getpid(),
            versions=versions(),
        )

    def step(self, name: str, of: str, work: Callable[[], Artefact]) -> Artefact:
        """What `work` gives, with its start, end, counters and outcome noted."""
        began, stamp = time.monotonic(), _now()
        self._write("step_started", step=name, of=of)
        try:
            artefact = work()
        except BaseException as problem:
            seconds = round(time.monotonic() - began, 3)
            self._write("step_ended", step=name, of=of, seconds=seconds, **_ending(problem))
            raise
        seconds = time.monotonic() - began
        is_reused = str(artefact.manifest.get("created", "")) < stamp[:19]
        counters = {} if is_reused else counters_of(name, artefact.manifest, seconds)
        with self._lock:
            _add(self._totals, counters)
        self._write(
            "step_ended",
            step=name,
            of=of,
            seconds=round(seconds, 3),
            outcome="done",
            artefact=artefact.folder.relative_to(self._root).as_posix(),
            is_reused=is_reused,
            counters=counters,
        )
        return artefact

    def end(self, problem: BaseException | None) -> None:
        """Note how the run ended. A log that cannot be uploaded is told, and costs no release."""
        seconds = round(time.monotonic() - self._began, 3)
        self._write("run_ended", seconds=seconds, counters=self._totals, **_ending(problem))
        try:
            self._upload()
        except StoreError as lost:
            logger.warning("the log of run %s could not be stored: %s", self.run, lost)

    def _write(self, event: str, **facts: Any) -> None:
        line = without_secrets(json.dumps({"time": _now(), "run": self.run, "event": event, **facts}, ensure_ascii=False))
        with self._lock, self.path.open("ab") as handle:
            handle.write(line.encode() + b"\n")
        told = " ".join(str(facts[name]) for name in ("command", "step", "of", "outcome", "seconds") if name in facts)
        logger.info("%s %s", event, told)
        if event == "step_ended" and time.monotonic() - self._uploaded > UPLOAD_SECONDS:
            with contextlib.suppress(StoreError):  # tried again at the next step, and told at the end
                self._upload()

    def _upload(self) -> None:
        mirror = mirror_of(self._root)
        if mirror is not None:
            with self._lock:
                self._uploaded = time.monotonic()
                mirror.objects.write(mirror.key(self.path), self.path.read_bytes())


@contextmanager
def run_log(store: Store, command: str, arguments: Mapping[str, Any]) -> Iterator[RunLog]:
    """A log that begins and ends with the block, however that ends."""
    log = RunLog(store, command, arguments)
    try:
        yield log
    except BaseException as problem:
        log.end(problem)
        raise
    log.end(None)


def _ending(problem: BaseException | None) -> dict[str, str]:
    if problem is None:
        return {"outcome": "done"}
    if isinstance(problem, KeyboardInterrupt | SystemExit) or not isinstance(problem, Exception):
        return {"outcome": "stopped"}
    return {"outcome": "failed", "error": f"{type(problem).__name__}: {problem}"[:2_000]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# --- Counters -----------------------------------------------------------------------------------------------------------


def counters_of(step: str, manifest: Mapping[str, Any], seconds: float) -> Counters:
    """What a step's manifest says it worked through, and how fast: counts, bytes read or written, samples by reason."""
    if step == "ingest":
        counts = manifest["counts"]
        found: Counters = {name: counts[name] for name in ("records", "samples", "images", "tokens") if name in counts}
        found |= {"bytes": manifest["inputs"]["num_bytes"], "rejected": dict(counts["rejected"])}
    elif step == "shard":
        found = {"released": manifest["num_samples"], "bytes": manifest["num_bytes"]}
    elif step in ("deduplicate", "decontaminate"):
        dropped: Counter[str] = Counter()
        for counts in manifest["counts"].values():
            dropped.update(counts["dropped"])
        kept = sum(counts["kept"] for counts in manifest["counts"].values())
        found = {"kept": kept, "dropped": dict(dropped)}
    else:
        return {}
    for name in ("records", "images", "bytes"):
        if found.get(name) and seconds > 0:
            found[f"{name}_per_second"] = round(found[name] / seconds, 1)
    return found


def _add(totals: Counters, counters: Counters) -> None:
    for name, value in counters.items():
        if isinstance(value, Mapping):
            totals[name] = dict(Counter(totals.get(name, {})) + Counter(value))
        elif not name.endswith("_per_second") and name != "kept":
            totals[name] = totals.get(name, 0) + value


# --- Reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run as its log tells it; `outcome` is None while it runs, and for one that was killed."""

    run: str
    command: str
    arguments: Mapping[str, Any]
    started: str
    outcome: str | None
    error: str | None
    seconds: float | None
    counters: Mapping[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)


def runs(store: Store, last: int | None = None) -> list[Run]:
    """The newest runs of a root, oldest first; all of them where `last` is None."""
    mirror = mirror_of(store.root)
    names = {path.name for path in (store.root / RUNS).glob("*.jsonl")}
    if mirror is not None:
        names |= mirror.objects.names(RUNS)
    known = sorted(name.removesuffix(".jsonl") for name in names if RUN_ID.fullmatch(name.removesuffix(".jsonl")))
    return [run for name in known[-last if last else 0 :] if (run := _read(store.root / RUNS / f"{name}.jsonl"))]


def _read(path: Path) -> Run | None:
    """A run, or None for a log without a first line; lines that are cut or damaged are passed over."""
    mirror = mirror_of(path)
    stored = mirror.objects.read(mirror.key(path)) if mirror else None
    here = path.read_bytes() if path.exists() else b""
    data = max(stored or b"", here, key=len)  # a run on this machine has written more here than it has uploaded
    events: list[dict[str, Any]] = []
    for line in data.splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            event = orjson.loads(line)
            if isinstance(event, dict):
                events.append(event)
    if not events or events[0].get("event") != "run_started":
        return None
    first = events[0]
    # Not always the last: threads of a run that is stopped note the ends of their steps a moment later.
    end = next((event for event in events if event["event"] == "run_ended"), {})
    return Run(
        run=str(first["run"]),
        command=str(first["command"]),
        arguments=first["arguments"],
        started=str(first["time"]),
        outcome=end.get("outcome"),
        error=end.get("error"),
        seconds=end.get("seconds"),
        counters=end.get("counters", {}),
        steps=[event for event in events if event["event"] == "step_ended"],
    )
