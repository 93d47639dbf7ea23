"""Examining pictures in a process of its own, for those that may kill the process that decodes them.

A decoder that crashes, or is killed for the memory it takes, ends its whole process. In a child it ends the child only, and
the picture under examination is known. A copy of each picture goes through a pipe, so this is for second attempts.
"""

import base64
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.imaging import ImageFacts, examine

DEATHS = 3
"""So many fresh processes must die of a picture before it is blamed: one alone may have been killed for another reason."""

_REQUEST = struct.Struct(">QQ")
_ANSWER = struct.Struct(">Q")
_PACKAGE_HOME = Path(__file__).parent.parent

Examine = Callable[..., ImageFacts]
"""`examine(data, max_pixels=...)`; raises Unusable."""


class Examiner:
    """A child process that examines pictures, started when it is first asked; a context manager that ends it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Examiner":
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def examine(self, data: bytes, *, max_pixels: int) -> ImageFacts:
        """As `imaging.examine`; raises Unusable(crashed_decoder) for a picture that child after child dies of."""
        with self._lock:
            for _ in range(DEATHS):
                answer = self._ask(data, max_pixels)
                if answer is not None:
                    return _facts(answer)
        raise Unusable(RejectReason.CRASHED_DECODER, f"decoding its {len(data)} bytes kills the process that does it")

    def _ask(self, data: bytes, max_pixels: int) -> dict[str, Any] | None:
        """The child's answer, or None when it died over it."""
        if self._child is None:
            self._child = _start()
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(_REQUEST.pack(len(data), max_pixels))
            stdin.write(data)
            stdin.flush()
            header = stdout.read(_ANSWER.size)
            if len(header) == _ANSWER.size:
                answer: dict[str, Any] = json.loads(stdout.read(*_ANSWER.unpack(header)))
                return answer
        except (BrokenPipeError, ValueError):  # it died before all was written, or in the middle of its answer
            pass
        self._end()
        return None

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [str(_PACKAGE_HOME), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "curation.examiner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )


def _facts(answer: dict[str, Any]) -> ImageFacts:
    if "reason" in answer:
        raise Unusable(RejectReason(answer["reason"]), answer["detail"])
    return ImageFacts(**{**answer, "thumbnail": base64.b64decode(answer["thumbnail"])})


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    with suppress(OSError):  # where memory runs out, this process is to go first
        Path("/proc/self/oom_score_adj").write_text("1000")
    while len(header := requests.read(_REQUEST.size)) == _REQUEST.size:
        num_bytes, max_pixels = _REQUEST.unpack(header)
        try:
            facts = asdict(examine(requests.read(num_bytes), max_pixels=max_pixels))
            answer = {**facts, "thumbnail": base64.b64encode(facts["thumbnail"]).decode()}
        except Unusable as problem:
            answer = {"reason": problem.reason.value, "detail": problem.detail}
        told = json.dumps(answer).encode()
        answers.write(_ANSWER.pack(len(told)) + told)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
