"""Pictures at URLs that records hold: each asked for once, and then here under a name made of its URL, or known to be gone.

The URLs are strangers': public hosts only, nothing from the environment in them, no credentials sent, sizes bounded. A host is
asked by few connections at once, waits as it says (`Retry-After`), and is left alone when it does not answer at all. Pictures
are kept as they come, so a run that was killed asks for the rest only.

What a host refuses is gone at once. What did not come for a reason that may pass is asked for again by the next run when it is
so much that the network may be the reason, and is gone then, too; `forget_gone` lets all of it be asked for again.
"""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from curation.catalog.template import Unusable
from curation.errors import FetchError, RejectReason
from curation.fetch.addresses import Unresolved, shown_url
from curation.fetch.client import Client, Stopped, Temporary
from curation.fetch.local import alone_in
from curation.imaging import MAX_FILE_BYTES
from curation.runtime.progress import Reporter, Track
from curation.storage.store import read_object, replacing, write_json

OUTAGE_SHARE = 0.1
"""The share of pictures that may fail to come, for reasons that may pass, before the network is taken for the reason."""
SILENCES, EXCUSES = 3, 50
"""Pictures of a host that may get no answer, or none but errors that pass, one after the other before it is left alone."""
_LONGEST_URL = 4_096


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """How hard to ask: connections at once, those to one host, and tries of a picture."""

    connections: int = 16
    connections_a_host: int = 4
    attempts: int = 3
    first_wait_s: float = 1.0
    longest_wait_s: float = 120.0
    timeout_s: float = 30.0
    max_bytes: int = MAX_FILE_BYTES


def picture_name(url: str) -> str:
    """What the picture at `url` is called below the folder of pictures."""
    key = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"{key[:2]}/{key}"


def read_picture(folder: Path, url: str) -> bytes:
    """The picture that was fetched from `url`. Raises Unusable (missing_image, image_too_large) when it was not there."""
    path = folder / picture_name(url)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    gone = _gone(path)
    if not gone.exists():
        raise Unusable(RejectReason.MISSING_IMAGE, "it was not fetched")
    known = read_object(gone)
    raise Unusable(RejectReason(known["reason"]), known["detail"])


def fetch_pictures(urls: Sequence[str], folder: Path, reporter: Reporter, settings: PictureSettings | None = None) -> None:
    """Bring the pictures at `urls`, or the reason why one is not there, into `folder`.

    Raises FetchError when so many did not come that a later run may get them.
    """
    settings = settings or PictureSettings()
    with alone_in(folder):
        missing = sorted((url for url in urls if not _is_known(folder / picture_name(url))), key=picture_name)
        if not missing:
            return
        late = _fetch(missing, folder, reporter, settings)
    if len(late) > OUTAGE_SHARE * len(urls):
        raise FetchError(
            f"{len(late):,} of {len(urls):,} pictures did not come, such as {late[0]}; run again to ask for those once more: "
            "what does not come then is rejected as missing_image"
        )


def forget_gone(urls: Sequence[str], folder: Path) -> None:
    """Let the next run ask again for pictures that were not there."""
    for url in urls:
        _gone(folder / picture_name(url)).unlink(missing_ok=True)


def _gone(path: Path) -> Path:
    return path.with_name(f"{path.name}.gone")


def _is_known(path: Path) -> bool:
    if path.exists():
        return True
    gone = _gone(path)
    return gone.exists() and not read_object(gone)["may_come"]


def _fetch(missing: Sequence[str], folder: Path, reporter: Reporter, settings: PictureSettings) -> list[str]:
    """Fetch pictures side by side; the details of those that did not come for the first time."""
    with (
        Client(settings.connections, settings.timeout_s) as client,
        reporter.track("fetch pictures", len(missing)) as track,
        ThreadPoolExecutor(settings.connections, "picture") as threads,
    ):
        visit = _Visit(client, folder, settings, track)
        jobs = [threads.submit(visit.bring, url) for url in missing]
        try:
            return [late for job in jobs if (late := job.result()) is not None]
        except BaseException:
            client.stop()
            threads.shutdown(cancel_futures=True)
            raise


# --- One picture --------------------------------------------------------------------------------------------------------


def take_picture(client: Client, url: str, write: Callable[[bytes], object], max_bytes: int = MAX_FILE_BYTES) -> None:
    """Give the picture at `url` to `write`, block by block.

    Raises Unusable (missing_image, image_too_large) for what is no picture, or too large; Temporary for what may pass.
    """
    _expect_address(url)
    prefix = f"{shown_url(url)}: "
    try:
        with client.get(url, {}, is_from_data=True) as answer:
            if answer.status != 200:
                raise Unusable(RejectReason.MISSING_IMAGE, f"the server answers {answer.status}")
            if answer.media_type.startswith("text/"):
                detail = f"the server answers {answer.status} with {answer.media_type}, which is no picture"
                raise Unusable(RejectReason.MISSING_IMAGE, detail)
            size = answer.total or 0
            if size <= max_bytes:
                size = 0
                for block in answer.blocks():
                    client.expect_going()
                    size += len(block)
                    if size > max_bytes:
                        break
                    write(block)
            if size > max_bytes:
                raise Unusable(RejectReason.IMAGE_TOO_LARGE, f"{size:,} bytes or more; the limit is {max_bytes:,}")
            if not size:
                raise Unusable(RejectReason.MISSING_IMAGE, f"the server answers {answer.status} with nothing")
    except Stopped:
        raise
    except Unresolved as problem:
        raise Temporary(str(problem).removeprefix(prefix), is_silence=True) from None
    except FetchError as problem:
        raise Unusable(RejectReason.MISSING_IMAGE, str(problem).removeprefix(prefix)) from None


def _expect_address(url: str) -> None:
    """Raises Unusable for a text that cannot be asked for: URLs of records may be anything."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        is_usable = is_usable and not (parts.username or parts.password) and len(url) <= _LONGEST_URL
        url.encode("utf-8")
    except ValueError:
        is_usable = False
    if not is_usable:
        raise Unusable(RejectReason.MISSING_IMAGE, "that is no address of a picture (http or https, without user)")


@dataclass(slots=True)
class _Host:
    """What is known of a host: how many may ask it, from when on, and how often it did not answer."""

    turn: threading.Semaphore
    not_before: float = 0.0
    silences: int = 0
    excuses: int = 0
    problem: str = ""

    @property
    def is_left_alone(self) -> bool:
        """Whether it is of no use to ask any more."""
        return self.silences >= SILENCES or self.excuses >= EXCUSES

    def answered(self) -> None:
        """It gave a picture, or said why not."""
        self.silences = self.excuses = 0

    def failed(self, problem: Temporary) -> None:
        """A picture did not come, however often it was asked for."""
        self.silences = self.silences + 1 if problem.is_silence else 0
        self.excuses += 1
        self.problem = str(problem)


@dataclass(slots=True)
class _Visit:
    """A run over many hosts."""

    client: Client
    folder: Path
    settings: PictureSettings
    track: Track
    hosts: dict[str, _Host] = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.hosts = defaultdict(lambda: _Host(threading.Semaphore(self.settings.connections_a_host)))

    def bring(self, url: str) -> str | None:
        """Fetch one picture, or note why it is not there; its detail when it may come another time."""
        path = self.folder / picture_name(url)
        late: str | None = None
        try:
            self._insist(url, path)
        except Unusable as problem:
            self._note(path, problem.reason, problem.detail, may_come=False)
        except Temporary as problem:
            is_first = not _gone(path).exists()
            self._note(path, RejectReason.MISSING_IMAGE, str(problem), may_come=is_first)
            late = f"{shown_url(url)}: {problem}" if is_first else None
        self.track.advance(1)
        return late

    def _note(self, path: Path, reason: RejectReason, detail: str, *, may_come: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(_gone(path), {"reason": reason.value, "detail": detail, "may_come": may_come})

    def _insist(self, url: str, path: Path) -> None:
        _expect_address(url)
        host = self._host(url)
        for attempt in range(self.settings.attempts):
            with host.turn:
                if host.is_left_alone:
                    raise Temporary(host.problem)
                self.client.wait(max(0.0, host.not_before - time.monotonic()))
                try:
                    self._take(url, path)
                except Unusable:
                    host.answered()
                    raise
                except Temporary as problem:
                    waits = max(self.settings.first_wait_s * 2**attempt, problem.retry_after_s)
                    if problem.retry_after_s:
                        host.not_before = time.monotonic() + min(waits, self.settings.longest_wait_s)
                    last = problem
                else:
                    host.answered()
                    return
            if attempt + 1 < self.settings.attempts:
                self.client.wait(min(waits, self.settings.longest_wait_s))
        host.failed(last)
        raise last

    def _take(self, url: str, path: Path) -> None:
        with replacing(path) as temporary, temporary.open("wb") as handle:
            take_picture(self.client, url, handle.write, self.settings.max_bytes)

    def _host(self, url: str) -> _Host:
        with self.lock:
            return self.hosts[str(urlsplit(url).hostname)]
