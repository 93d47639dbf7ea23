"""HTTP requests as fetching needs them: public hosts only, few redirects, errors sorted into those that may pass and others."""

import email.utils
import logging
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from curation.errors import FetchError
from curation.fetch.addresses import expanded_url, expect_public, expect_public_peer, shown_url

USER_AGENT = "cambrian-curation (dataset download; resumes, backs off)"
MAX_REDIRECTS = 5
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_URL = re.compile(r"https?://\S+")


class Temporary(Exception):
    """A failure that a later try may not meet. `retry_after_s`: what the server asks for; `is_silence`: none answered."""

    def __init__(self, what: str, retry_after_s: float = 0.0, *, is_silence: bool = False) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s
        self.is_silence = is_silence


class Stopped(FetchError):
    """Somebody wants to go: nothing is known of what was asked for."""


class _WithoutCredentials(logging.Filter):
    """Takes queries, users and passwords out of what the HTTP library logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record through."""
        record.msg = _URL.sub(lambda match: shown_url(match[0]), record.getMessage())
        record.args = ()
        return True


class _Silence(logging.Filter):
    """Lets nothing through: what the connection logs for debugging is headers, signed addresses among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never lets the record through."""
        return False


_FILTERS = {"httpx": _WithoutCredentials(), "httpcore.http11": _Silence(), "httpcore.proxy": _Silence()}


class Answer:
    """A response whose body is still to be read."""

    def __init__(self, response: httpx.Response, shown: str) -> None:
        self._response = response
        self._shown = shown
        self.status = response.status_code
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        self.start = int(match[1]) if match and match[1] else None
        length = response.headers.get("Content-Length", "")
        total = match[2] if match else length
        self.total = int(total) if total.isdecimal() else None

    @property
    def media_type(self) -> str:
        """What the server calls the body, without parameters; empty where it does not say."""
        return str(self._response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()

    @property
    def validator(self) -> str | None:
        """What a later request may be conditioned on: a strong ETag, or the date of change."""
        tag = self._response.headers.get("ETag")
        if tag and not tag.startswith("W/"):
            return str(tag)
        changed = self._response.headers.get("Last-Modified")
        return str(changed) if changed else None

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes. Raises Temporary when the connection breaks or the body is short."""
        try:
            yield from self._response.iter_raw()
        except httpx.TransportError as problem:
            raise Temporary(f"the connection broke ({type(problem).__name__}: {problem})") from None


class Client:
    """At most `connections` requests at once, from any number of threads."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        for name, quiet in _FILTERS.items():
            logging.getLogger(name).addFilter(quiet)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._client = httpx.Client(
            timeout=timeout_s,
            limits=limits,
            follow_redirects=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        )
        self._turn = threading.Semaphore(connections)
        self._is_closing = threading.Event()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing.set()
        self._client.close()

    def stop(self) -> None:
        """Let every request under way end at its next block, and no other begin: somebody wants to go."""
        self._is_closing.set()

    def expect_going(self) -> None:
        """Raises Stopped after `stop`."""
        if self._is_closing.is_set():
            raise Stopped("stopped; run again to go on")

    def wait(self, seconds: float) -> None:
        """Wait about `seconds`, a little differently each time so that clients do not come back all together."""
        self._is_closing.wait(seconds * random.uniform(0.75, 1.25))

    @contextmanager
    def get(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        token: str | None = None,
        method: str = "GET",
        is_from_data: bool = False,
    ) -> Iterator[Answer]:
        """The answer (200, 206 or 416) to a request, redirects followed. Raises Temporary or FetchError.

        A URL that `is_from_data` is taken as it stands: a record must not name a variable of the environment.
        """
        self.expect_going()
        target = url if is_from_data else expanded_url(url)
        sent = dict(headers)
        if token and os.environ.get(token):
            sent["Authorization"] = f"Bearer {os.environ[token]}"
        with self._turn:
            for _ in range(MAX_REDIRECTS + 1):
                expect_public(target, is_from_data=is_from_data)
                with self._opened(method, target, sent, url) as response:
                    expect_public_peer(_peer(response), target, is_from_data=is_from_data)
                    if response.status_code not in _REDIRECTS:
                        yield _sorted_out(response, url)
                        return
                    following = urljoin(target, response.headers.get("Location", ""))
                if urlsplit(target).scheme == "https" and urlsplit(following).scheme != "https":
                    raise FetchError(f"{shown_url(url)}: it redirects from https to {shown_url(following)}: refused")
                if _origin(following) != _origin(target):
                    sent.pop("Authorization", None)
                target = following
        raise FetchError(f"{shown_url(url)}: more than {MAX_REDIRECTS} redirects, the last to {shown_url(target)}")

    @contextmanager
    def _opened(self, method: str, target: str, headers: Mapping[str, str], url: str) -> Iterator[httpx.Response]:
        try:
            request = self._client.build_request(method, target, headers=dict(headers))
            response = self._client.send(request, stream=True)
        except httpx.TransportError as problem:
            raise Temporary(f"no answer ({type(problem).__name__}: {problem})", is_silence=True) from None
        except (httpx.InvalidURL, ValueError) as problem:
            raise FetchError(f"{shown_url(url)}: no usable URL ({type(problem).__name__})") from None
        try:
            yield response
        finally:
            response.close()


def _peer(response: httpx.Response) -> object:
    """The address that answers. Raises Temporary when the connection is gone already."""
    stream: Any = response.extensions.get("network_stream")
    try:
        return stream.get_extra_info("server_addr") if stream else None
    except OSError as problem:
        raise Temporary(f"the connection broke ({problem.strerror})") from None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _sorted_out(response: httpx.Response, url: str) -> Answer:
    status, shown = response.status_code, shown_url(url)
    if status in (200, 206, 416):
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError(f"{shown}: the server re-encodes the file ({response.headers['Content-Encoding']}); ask another")
        return Answer(response, shown)
    if status in _PASSING:
        raise Temporary(f"the server answers {status}", _retry_after(response.headers.get("Retry-After", "")))
    hint = {401: "it needs credentials", 403: "access is refused", 404: "it is not there", 410: "it is gone"}.get(status)
    if status in (401, 403):
        hint = f"{hint}: give them through the environment (HF_TOKEN for the Hub, ${{NAME}} in the URL)"
    raise FetchError(f"{shown}: the server answers {status}" + (f"; {hint}" if hint else ""))


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header, given as a number or a date."""
    if text.strip().isdecimal():
        return float(text)
    parsed = email.utils.parsedate_tz(text) if text else None
    return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed else 0.0
