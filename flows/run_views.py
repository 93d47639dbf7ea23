"""Runs on the terminal, at most 80 columns wide."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from curation.run_log import Run
from flows.views import size, table

_UNFINISHED = "unfinished"


def show_runs(console: Console, found: Sequence[Run]) -> None:
    """A line a run, oldest first."""
    if not found:
        console.print("Nothing was run here yet: `curate ingest` and `curate build` leave a log each.", highlight=False)
        return
    rows = [
        (one.run, one.command, one.outcome or _UNFINISHED, duration(one.seconds), len(one.steps), *_figures(one.counters))
        for one in found
    ]
    columns = ("run", "command", "outcome", "took", "steps", "records", "rejected", "released")
    console.print(table("runs", columns, rows, text_columns=3, is_tight=True))
    if any(one.outcome is None for one in found):
        console.print(f"{_UNFINISHED}: it runs still, or it was killed; the same command goes on from there", style="dim")


def show_run(console: Console, run: Run) -> None:
    """A run step by step."""
    asked = " ".join(f"{name}={value}" for name, value in run.arguments.items())
    console.print(f"[bold]{run.run}[/bold]", highlight=False)
    outcome = run.outcome or _UNFINISHED
    console.print(f"{run.command} {asked}: {outcome}, {duration(run.seconds)}", markup=False, highlight=False)
    if run.error:
        console.print(run.error, style="red", markup=False, highlight=False)
    rows = []
    for step in run.steps:
        counters = step.get("counters", {})
        state = "reused" if step.get("is_reused") else step["outcome"]
        rate = counters.get("images_per_second")
        rows.append(
            (
                step["step"], step["of"], state, duration(step["seconds"]), *_figures(counters)[:2],
                size(counters.get("bytes")), "-" if rate is None else f"{rate:,.0f}",
            )
        )  # fmt: skip
    columns = ("step", "of", "outcome", "took", "records", "rejected", "bytes", "images/s")
    console.print(table("steps", columns, rows, text_columns=3))


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _figures(counters: Mapping[str, Any]) -> tuple[Any, ...]:
    rejected = sum(counters["rejected"].values()) if "rejected" in counters else None
    found = (counters.get("records"), rejected, counters.get("released"))
    return tuple("-" if figure is None else figure for figure in found)
