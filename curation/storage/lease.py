"""One writer a root, kept by an object: who holds the lease renews it, and a dead writer's lease is taken over.

No clock is compared between machines: whoever waits takes the lease over when it has seen no renewal for `seconds` of its own
time. A writer that finds its lease taken raises before it publishes anything.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from curation.errors import StoreError
from curation.storage.objects import Objects

KEY = ".writer.lease"
SECONDS_VARIABLE = "CURATION_LEASE_SECONDS"
DEFAULT_SECONDS = 60.0


@contextmanager
def hold_lease(objects: Objects, *, note: Callable[[str], None] = lambda _: None) -> Iterator["Lease"]:
    """Wait for the root's lease, hold it while the block runs, and give it back."""
    lease = Lease(objects, float(os.environ.get(SECONDS_VARIABLE) or DEFAULT_SECONDS))
    lease.acquire(note)
    renewing = threading.Thread(target=lease.keep_renewing, name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        lease.stop()
        renewing.join()
        lease.release()


class Lease:
    """The lease of one writer; `seconds` without renewal make it free for others."""

    def __init__(self, objects: Objects, seconds: float) -> None:
        self._objects = objects
        self._seconds = seconds
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._version: str | None = None
        self._renewals = 0
        self._is_over = threading.Event()
        self._lost = ""

    def acquire(self, note: Callable[[str], None]) -> None:
        """Wait until the lease is ours."""
        seen: str | None = None
        since = time.monotonic()
        is_noted = False
        while True:
            version = self._objects.version(KEY)
            if version != seen:
                seen, since = version, time.monotonic()
            is_free = version is None or time.monotonic() - since >= self._seconds
            if is_free and self._write(version):
                return
            if not is_noted:
                note(f"another run writes to {self._objects.url}; waiting for it")
                is_noted = True
            time.sleep(min(2.0, self._seconds / 10))

    def keep_renewing(self) -> None:
        """Renew until released; a lease that was taken over is noted for `check`."""
        while not self._is_over.wait(self._seconds / 4):
            try:
                if not self._write(self._version):
                    self._lost = "another run took over the writing of this root"
                    return
            except StoreError as problem:
                self._lost = f"the lease of this root could not be renewed ({problem})"
                return

    def check(self) -> None:
        """Raises StoreError when the lease is no longer ours."""
        if self._lost:
            raise StoreError(f"{self._objects.url}: {self._lost}; nothing half-done was published, run the same command again")

    def stop(self) -> None:
        """Let `keep_renewing` end."""
        self._is_over.set()

    def release(self) -> None:
        """Give the lease back, if it still is ours."""
        if not self._lost and self._objects.version(KEY) == self._version:
            self._objects.delete(KEY)

    def _write(self, version: str | None) -> bool:
        self._renewals += 1
        data = json.dumps({"holder": self._holder, "renewal": self._renewals}).encode()
        if not self._objects.replace(KEY, data, version):
            return False
        self._version = self._objects.version(KEY)
        return self._objects.read(KEY) == data
