"""Files over HTTP: resumable, ranged, parallel, bounded and polite; whole and verified under their name, or not there.

A file grows as `.fetch/<key>.part` beside a small record of which byte ranges are in it, and takes its name by rename when its
size and hash are right. Ranges are asked for only as long as the server's validator (ETag, or date of change) stays the same;
a server that ignores them is read from the start. What was fetched once is not asked for again.
"""

import contextlib
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curation.errors import FetchError
from curation.fetch.addresses import shown_url
from curation.fetch.client import Answer, Client, Temporary
from curation.fetch.hashes import hash_file
from curation.fetch.ranges import Progress
from curation.fingerprint import fingerprint
from curation.runtime.progress import Reporter, Track
from curation.storage.store import read_object, write_json

STATE_FOLDER = ".fetch"
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class HttpFile:
    """A file to fetch: `name` below the folder, and what is promised of it. `token` names the variable of a bearer token."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How hard to ask: connections at once, bytes of a range, tries without progress, and the most bytes of one file."""

    connections: int = 6
    range_bytes: int = 64 << 20
    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 120.0
    timeout_s: float = 60.0
    max_bytes: int = 200 << 30


def fetch_http(
    files: Sequence[HttpFile], folder: Path, reporter: Reporter, settings: HttpSettings | None = None
) -> dict[str, str]:
    """Fetch what is not in `folder` yet; returns why by name for the files that could not be had.

    Raises CatalogError for names that leave the folder and for credentials that are not in the environment.
    """
    settings = settings or HttpSettings()
    for file in files:
        _expect_below(file)
    missing = [file for file in files if not is_fetched(file, folder)]
    failures: dict[str, str] = {}
    if not missing:
        return failures
    label = f"fetch {missing[0].name}" if len(missing) == 1 else f"fetch {len(missing)} files"
    total = sum(file.size or 0 for file in missing) // _MEBIBYTE
    with (
        Client(settings.connections, settings.timeout_s) as client,
        reporter.track(f"{label} (MiB)", total) as track,
        ThreadPoolExecutor(settings.connections, "fetch") as threads,
    ):
        jobs = {file.name: threads.submit(_Download(file, folder, client, settings, track).run) for file in missing}
        try:
            for name, job in jobs.items():
                try:
                    job.result()
                except FetchError as problem:
                    failures[name] = str(problem)
        except BaseException:
            client.stop()
            threads.shutdown(cancel_futures=True)
            raise
    return failures


def is_fetched(file: HttpFile, folder: Path) -> bool:
    """Whether `folder` holds the file whole, as promised, from this URL."""
    receipt = _state(file, folder, "json")
    path = folder / file.name
    if not (receipt.exists() and path.exists()):
        return False
    known = read_object(receipt)
    is_as_promised = file.sha256 in (None, known.get("sha256")) and file.size in (None, known.get("size"))
    return is_as_promised and path.stat().st_size == known.get("size")


def name_of(url: str) -> str:
    """The last segment of a URL's path, the default name of a file."""
    return PurePosixPath(shown_url(url)).name


def _expect_below(file: HttpFile) -> None:
    path = PurePosixPath(file.name)
    if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0] == STATE_FOLDER or "\\" in file.name:
        raise FetchError(f"{shown_url(file.url)}: the name '{file.name}' leaves its folder; give another `name`")


def _state(file: HttpFile, folder: Path, suffix: str) -> Path:
    """Where the receipt (`json`), the growing file (`part`) or its ranges (`ranges`) of a file lie."""
    return folder / STATE_FOLDER / f"{fingerprint([file.url, file.name])}.{suffix}"


class _Changed(Exception):
    """The server's file is no longer the one of which parts are here."""


class _Download:
    """One file on its way."""

    def __init__(self, file: HttpFile, folder: Path, client: Client, settings: HttpSettings, track: Track) -> None:
        self.file = file
        self.folder = folder
        self.client = client
        self.settings = settings
        self.track = track
        self.part = _state(file, folder, "part")
        self.ranges = _state(file, folder, "ranges")
        self.shown = shown_url(file.url)
        self.limit = file.size if file.size is not None else settings.max_bytes
        self._unreported = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Fetch, verify, publish. Raises FetchError."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        progress = self._load()
        for is_last_try in (False, False, True):
            try:
                self._fill(progress)
                self._publish(progress)
                return
            except _Changed as problem:
                self._forget()
                progress = Progress()
                if is_last_try:
                    raise FetchError(f"{self.shown}: {problem}") from None

    def _fill(self, progress: Progress) -> None:
        """Get every byte. The first range tells the size and whether the server gives ranges at all."""
        if progress.size is None:
            self._get(progress, 0, self.settings.range_bytes)
        gaps = list(progress.gaps(self.settings.range_bytes if progress.is_ranged else self.limit))
        if len(gaps) <= 1:
            for start, stop in gaps:
                self._get(progress, start, stop)
            return
        with ThreadPoolExecutor(self.settings.connections, "range") as threads:
            jobs = [threads.submit(self._get, progress, start, stop) for start, stop in gaps]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise

    def _get(self, progress: Progress, start: int, stop: int) -> None:
        """Bytes `start` to `stop`, or the whole file from a server without ranges; tried again as long as it may help."""
        failures = 0
        while True:
            before = progress.num_done
            gap = next(iter(progress.gaps_within(start, stop)), None)
            if gap is None:
                return
            try:
                self._ask(progress, *gap)
            except Temporary as problem:
                failures = 1 if progress.num_done > before else failures + 1
                if failures >= self.settings.attempts:
                    raise FetchError(f"{self.shown}: {problem} ({failures} tries)") from None
                wait = self.settings.first_wait_s * 2 ** (failures - 1)
                self.client.wait(min(max(wait, problem.retry_after_s), self.settings.longest_wait_s))
            else:
                failures = 0

    def _ask(self, progress: Progress, start: int, stop: int) -> None:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if progress.validator:
            headers["If-Range"] = progress.validator
        with self.client.get(self.file.url, headers, token=self.file.token) as answer:
            if answer.status == 416:
                if start == 0 and answer.total == 0:
                    progress.begin(0, answer.validator)
                    return
                raise _Changed(f"the server refuses the range from byte {start:,}: its file became shorter")
            if answer.status == 206:
                self._check_range(progress, answer, start)
            else:
                self._check_whole(progress, answer, start)
                start = 0
            self._write(progress, answer, start, stop if answer.status == 206 else None)

    def _check_range(self, progress: Progress, answer: Answer, start: int) -> None:
        if answer.start != start or answer.total is None:
            raise FetchError(f"{self.shown}: asked for byte {start:,}, the server answered with byte {answer.start}")
        self._check_size(answer.total)
        if progress.size is None:
            progress.begin(answer.total, answer.validator)
        elif answer.total != progress.size or (progress.validator and answer.validator not in (None, progress.validator)):
            raise _Changed("the server's file changed while it was fetched, three times over")

    def _check_whole(self, progress: Progress, answer: Answer, start: int) -> None:
        """A 200: the server knows no ranges, or its file is not the one asked for any more."""
        if answer.total is not None:
            self._check_size(answer.total)
        if progress.num_done and progress.is_ranged:
            raise _Changed("the server's file changed while it was fetched, three times over")
        progress.begin(answer.total, answer.validator, is_ranged=False)

    def _check_size(self, total: int) -> None:
        if self.file.size is not None and total != self.file.size:
            raise FetchError(f"{self.shown}: the server's file has {total:,} bytes, expected {self.file.size:,}")
        if total > self.limit:
            raise FetchError(f"{self.shown}: {total:,} bytes; the limit for a file is {self.limit:,}")

    def _write(self, progress: Progress, answer: Answer, start: int, stop: int | None) -> None:
        descriptor = os.open(self.part, os.O_CREAT | os.O_WRONLY, 0o644)
        position = start
        try:
            for read in answer.blocks():
                self.client.expect_going()
                block = read if stop is None else read[: stop - position]
                if position + len(block) > self.limit:
                    raise FetchError(f"{self.shown}: more than {self.limit:,} bytes come; that is the limit")
                os.pwrite(descriptor, block, position)
                position += len(block)
                if progress.add(start, position):
                    self._save(progress)
                self._report(len(block))
        finally:
            os.close(descriptor)
            self._save(progress)
        if stop is None and progress.size is None:
            progress.size = position

    def _report(self, num_bytes: int) -> None:
        with self._lock:
            self._unreported += num_bytes
            if self._unreported >= _MEBIBYTE:
                self.track.advance(self._unreported // _MEBIBYTE)
                self._unreported %= _MEBIBYTE

    def _load(self) -> Progress:
        if not (self.ranges.exists() and self.part.exists()):
            return Progress()
        with contextlib.suppress(ValueError, KeyError, TypeError):
            progress = Progress.parse(json.loads(self.ranges.read_bytes()))
            # Without a validator only a promised hash can tell whether old and new bytes belong together.
            if progress.validator or self.file.sha256:
                return progress
        return Progress()

    def _save(self, progress: Progress) -> None:
        with self._lock:
            write_json(self.ranges, progress.document())

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.ranges.unlink(missing_ok=True)

    def _publish(self, progress: Progress) -> None:
        if not self.part.exists():
            self.part.touch()
        size = self.part.stat().st_size
        if size != progress.size:
            raise _Changed(f"{size:,} bytes came, expected {progress.size}")
        sha256 = hash_file(str(self.part))
        if self.file.sha256 is not None and sha256 != self.file.sha256:
            raise _Changed(f"its sha256 is {sha256}, expected {self.file.sha256} (fetched three times)")
        target = self.folder / self.file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.part.open("rb") as handle:
            os.fsync(handle.fileno())
        receipt: dict[str, Any] = {"url": self.shown, "name": self.file.name, "size": size, "sha256": sha256}
        self.part.replace(target)
        write_json(_state(self.file, self.folder, "json"), receipt | {"validator": progress.validator})
        self.ranges.unlink(missing_ok=True)


def forget_receipts(folder: Path) -> None:
    """Let the next fetch into `folder` get every file again: a server does not say cheaply that nothing changed."""
    for path in (folder / STATE_FOLDER).glob("*.json"):
        path.unlink()
