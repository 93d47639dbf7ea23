"""A web server on the loopback that serves files well, or fails in the way it is told to."""

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Request:
    """What a client asked."""

    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""

    @property
    def start(self) -> int | None:
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        return int(match[1]) if match else None

    def stop(self, size: int) -> int:
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        return min(int(match[2]) + 1, size) if match and match[2] else size


@dataclass
class Plan:
    """How the next answers misbehave; each list is used up from its front, one entry a request of a file."""

    status: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    reset_after: list[int] = field(default_factory=list)
    short_by: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    etag: str | None = '"one"'


@dataclass
class Server:
    url: str
    files: dict[str, bytes]
    plan: Plan
    requests: list[Request] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    answer: Callable[[Request], tuple[int, dict[str, str], bytes] | None] | None = None


@contextmanager
def serving(files: dict[str, bytes] | None = None, plan: Plan | None = None) -> Iterator[Server]:
    """A server of `files` (by path without slash) while the block runs."""
    server = Server("", dict(files or {}), plan or Plan())
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.path, dict(self.headers.items()), self.command, body)
            with lock:
                server.requests.append(request)
                status = server.plan.status.pop(0) if server.plan.status else None
            path = self.path.partition("?")[0].lstrip("/")
            if status is not None:
                self._send(status[0], status[1], b"no")
            elif server.answer is not None and (own := server.answer(request)) is not None:
                self._send(*own)
            elif path in server.redirects:
                self._send(302, {"Location": server.redirects[path]}, b"")
            elif path not in server.files:
                self._send(404, {}, b"nothing here")
            else:
                self._send_file(request, server.files[path])

        def _send_file(self, request: Request, data: bytes) -> None:
            plan = server.plan
            headers = {"ETag": plan.etag} if plan.etag else {}
            match = _RANGE.fullmatch(self.headers.get("Range", ""))
            condition = self.headers.get("If-Range")
            if match and plan.knows_ranges and condition in (None, plan.etag):
                start, stop = int(match[1]), min(int(match[2] or len(data) - 1) + 1, len(data))
                if start >= len(data):
                    self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
                    return
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
                self._send(206, headers, data[start:stop], misbehaving=True)
            else:
                self._send(200, headers, data, misbehaving=True)

        def _send(self, status: int, headers: dict[str, str], body: bytes, *, misbehaving: bool = False) -> None:
            with lock:
                reset = server.plan.reset_after.pop(0) if misbehaving and server.plan.reset_after else None
                short = server.plan.short_by.pop(0) if misbehaving and server.plan.short_by else 0
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.close_connection = self.close_connection or headers.get("Connection") == "close"
            self.end_headers()
            if self.command == "HEAD":
                return
            if reset is not None:
                self.wfile.write(body[:reset])
                self.wfile.flush()
                time.sleep(0.03)  # a reset overtakes what the client has not read
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            self.wfile.write(body[: len(body) - short])
            if short:
                self.close_connection = True

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that leave are part of the plan

    httpd = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
