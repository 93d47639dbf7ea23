"""The way out of a run that is stopped: threads that compute for it notice within a second, and are waited for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from curation.errors import WorkerError

CHECK_SECONDS = 1.0
LEAVE_SECONDS = 30.0


class Gate:
    """Lets work in until it is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_closed = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """A block of work. Raises WorkerError when the gate is closed already."""
        with self._changed:
            self.check()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def check(self) -> None:
        """Raises WorkerError once the gate is closed; to be asked now and then inside."""
        if self._is_closed:
            raise WorkerError("the run was stopped. What is finished is kept; run the same command again")

    def close(self) -> None:
        """Let nothing more in, and wait a while for what is inside to leave."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: self._inside == 0, LEAVE_SECONDS)
