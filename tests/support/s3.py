"""An S3 server on loopback, which can be told to fail."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest

SECRET = "secret-that-must-not-be-printed"
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Faults:
    """What goes wrong: `plan` maps a running number of requests to `503`, `500` or `short`; none by default."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application
        self._lock = threading.Lock()
        self.plan: Callable[[int, str, str], str | None] = lambda number, method, path: None
        self.num_requests = 0
        self.num_faults = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self.num_requests += 1
            fault = self.plan(self.num_requests, environ["REQUEST_METHOD"], environ["PATH_INFO"])
            self.num_faults += fault is not None
        if fault in ("500", "503"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{fault} Slow Down", [("Content-Type", "text/plain"), ("Connection", "close")])
            return [b""]
        answered = self._application(environ, start_response)
        if fault == "short":
            return [b"".join(answered)[:-1]]
        return answered


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A running server with a bucket `lake`; the environment points every S3 client at it."""
    import boto3
    import s3fs
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()  # what it holds outlives its servers
        boto3.client("s3").create_bucket(Bucket="lake")
        yield faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        s3fs.S3FileSystem.clear_instance_cache()
