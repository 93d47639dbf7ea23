"""Counters of a root as Prometheus text: what its runs worked through, and what its sources and releases hold now.

For a node exporter's textfile collector, or any scraper of files: `curate metrics > curation.prom`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from curation.run_log import Run, runs
from curation.storage.store import Store, latest, read_manifest

_Labels = tuple[tuple[str, str], ...]
_HELP = {
    "curation_runs_total": ("counter", "Runs by command and outcome; unfinished ones run still or were killed."),
    "curation_run_seconds_total": ("counter", "Time spent in finished runs."),
    "curation_last_run_timestamp_seconds": ("gauge", "When the newest run of a command and outcome began."),
    "curation_step_seconds_total": ("counter", "Time spent in steps."),
    "curation_steps_total": ("counter", "Steps by outcome; reused ones found their work done."),
    "curation_records_total": ("counter", "Upstream records read."),
    "curation_images_total": ("counter", "Distinct images looked at."),
    "curation_bytes_total": ("counter", "Bytes read by ingest, and written by shard."),
    "curation_rejected_total": ("counter", "Records refused, by reason."),
    "curation_images_per_second": ("gauge", "Images a second of the last ingestion of a source that had any."),
    "curation_source_records": ("gauge", "Records of a source as ingested last."),
    "curation_source_samples": ("gauge", "Samples of a source as ingested last."),
    "curation_source_rejected": ("gauge", "Rejected records of a source as ingested last, by reason."),
    "curation_release_samples": ("gauge", "Samples of a mixture's newest release."),
    "curation_release_bytes": ("gauge", "Bytes of the shards of a mixture's newest release."),
    "curation_release_timestamp_seconds": ("gauge", "When a mixture's newest release was made."),
}
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


class _Figures:
    """Sums and last values by name and labels."""

    def __init__(self) -> None:
        self._values: dict[str, dict[_Labels, float]] = defaultdict(dict)

    def add(self, name: str, value: float, **labels: str) -> None:
        known = self._values[name]
        key = tuple(labels.items())
        known[key] = known.get(key, 0) + value

    def set(self, name: str, value: float, **labels: str) -> None:
        self._values[name][tuple(labels.items())] = value

    def families(self) -> dict[str, dict[str, Any]]:
        """By name: type, help, and the values with their labels, sorted by these."""
        return {
            name: {
                "type": kind,
                "help": text,
                "values": [{"labels": dict(labels), "value": value} for labels, value in sorted(self._values[name].items())],
            }
            for name, (kind, text) in _HELP.items()
            if self._values[name]
        }


def metrics_document(store: Store) -> dict[str, Any]:
    """The counters of `store` by name: type, help and values with their labels."""
    figures = _Figures()
    for run in runs(store):
        _add_run(figures, run)
    for name in store.names("sources"):
        if folder := latest(store.root / "sources" / name):
            counts = read_manifest(folder)["counts"]
            figures.set("curation_source_records", counts["records"], source=name)
            figures.set("curation_source_samples", counts["samples"], source=name)
            for reason, num in counts["rejected"].items():
                figures.set("curation_source_rejected", num, source=name, reason=reason)
    for name in store.names("releases"):
        if folder := latest(store.root / "releases" / name):
            _add_release(figures, name, read_manifest(folder))
    return figures.families()


def prometheus_text(store: Store) -> str:
    """The counters of `store` in Prometheus' text format."""
    return "".join(f"{line}\n" for line in _lines(metrics_document(store)))


def _lines(families: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, family in families.items():
        yield f"# HELP {name} {family['help']}"
        yield f"# TYPE {name} {family['type']}"
        for one in family["values"]:
            shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in one["labels"].items())
            yield f"{name}{{{shown}}} {one['value']:.15g}"


def _add_run(figures: _Figures, run: Run) -> None:
    outcome = run.outcome or "unfinished"
    figures.add("curation_runs_total", 1, command=run.command, outcome=outcome)
    figures.add("curation_run_seconds_total", run.seconds or 0, command=run.command)
    figures.set("curation_last_run_timestamp_seconds", _seconds(run.started), command=run.command, outcome=outcome)
    for step in run.steps:
        _add_step(figures, step)


def _add_step(figures: _Figures, step: Mapping[str, Any]) -> None:
    name, counters = step["step"], step.get("counters", {})
    figures.add("curation_steps_total", 1, step=name, outcome="reused" if step.get("is_reused") else step["outcome"])
    figures.add("curation_step_seconds_total", step["seconds"], step=name)
    if "bytes" in counters:
        figures.add("curation_bytes_total", counters["bytes"], step=name)
    if name == "ingest":
        for what in ("records", "images"):
            figures.add(f"curation_{what}_total", counters.get(what, 0), source=step["of"])
        for reason, num in counters.get("rejected", {}).items():
            figures.add("curation_rejected_total", num, source=step["of"], reason=reason)
        if "images_per_second" in counters:
            figures.set("curation_images_per_second", counters["images_per_second"], source=step["of"])


def _add_release(figures: _Figures, name: str, manifest: Mapping[str, Any]) -> None:
    figures.set("curation_release_samples", manifest["num_samples"], mixture=name)
    figures.set("curation_release_bytes", manifest["num_bytes"], mixture=name)
    figures.set("curation_release_timestamp_seconds", _seconds(manifest["created"]), mixture=name)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _escaped(text: str) -> str:
    return re.sub(r'[\\"\n]', lambda match: _ESCAPED[match[0]], text)
