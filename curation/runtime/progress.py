"""How long work tells of itself: bars on a terminal, a line now and then elsewhere, nothing when asked to be quiet."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_INTERVAL_SECONDS = 5.0


class Track(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int) -> None:
        """Note that `amount` more units are done."""


class Reporter(Protocol):
    """Where pieces of work are announced."""

    def note(self, text: str) -> None:
        """Say one line."""

    def track(self, label: str, total: int) -> AbstractContextManager[Track]:
        """Announce work of `total` units; the track ends with the block."""


class BarReporter:
    """Progress bars that live at the bottom of a terminal; safe to use from several threads."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<28}"), BarColumn(bar_width=16), MofNCompleteColumn(), _Rate())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self._lock = threading.Lock()
        self._open = 0

    def note(self, text: str) -> None:
        """Print above the bars."""
        self._progress.console.print(text, highlight=False, markup=False)

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Track]:
        """A bar while the block runs."""
        with self._lock:
            if self._open == 0:
                self._progress.start()
            self._open += 1
        task = self._progress.add_task(label, total=total)
        try:
            yield _Bar(self._progress, task)
        finally:
            self._progress.remove_task(task)
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._progress.stop()


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        """The rate, as wide as any."""
        return Text("" if task.speed is None else f"{rate(task.speed)}", style="progress.data.speed")


def rate(units_per_second: float) -> str:
    """A rate in at most eight characters; a slow one as units a minute."""
    if 0 < units_per_second < 0.1:
        return f"{units_per_second * 60:.1f}/min"
    return f"{units_per_second:,.0f}/s" if units_per_second >= 10 else f"{units_per_second:.1f}/s"


class _Bar:
    def __init__(self, progress: Progress, task: int) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: int) -> None:
        self._progress.advance(self._task, amount)  # type: ignore[arg-type]


class LineReporter:
    """Plain lines for logs and pipes: at most one every few seconds for each piece of work."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def note(self, text: str) -> None:
        """Print one line."""
        if self._stream is not None:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Track]:
        """Lines such as `ingest charts: 12 of 40 (2.4/s, 12 s left)` while the block runs, if it runs long."""
        yield _Lines(self, label, total)


class _Lines:
    def __init__(self, reporter: LineReporter, label: str, total: int) -> None:
        self._reporter = reporter
        self._label = label
        self._total = total
        self._done = 0
        self._began = self._spoken = time.monotonic()

    def advance(self, amount: int) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._spoken >= LINE_INTERVAL_SECONDS:
            self._spoken = now
            self._reporter.note(f"{self._label}: {self._done:,} of {self._total:,}{self._pace(now)}")

    def _pace(self, now: float) -> str:
        """How fast it goes and how long it will take at that, where that can be told."""
        if now <= self._began or self._done <= 0:
            return ""
        speed = self._done / (now - self._began)
        left = f", {(self._total - self._done) / speed:,.0f} s left" if self._total > self._done else ""
        return f" ({rate(speed)}{left})"


def reporter_for(stream: TextIO = sys.stderr, *, is_quiet: bool = False) -> Reporter:
    """Bars when `stream` is a terminal, lines when it is not, silence when quiet."""
    if is_quiet:
        return LineReporter(None)
    if stream.isatty():
        return BarReporter(Console(file=stream))
    return LineReporter(stream)
