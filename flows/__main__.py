"""The command `curate`. Results go to stdout, progress and messages to stderr; exit 0 done, 1 failed, 2 wrong usage."""

import errno
import sys
from pathlib import Path

from curation.errors import CurationError
from flows.commands import catalog, mixtures, releases, runs
from flows.commands.app import Globals, app

__all__ = ["app", "catalog", "main", "mixtures", "releases", "runs"]

_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "read-only file system",
}
_INTERRUPTED = 130
_STOPPED = "stopped. What is finished is kept; the same command goes on from there."


def main() -> None:
    """Run the command line; what a user can mend is told in one paragraph, without a traceback."""
    try:
        app(prog_name="curate")
    except CurationError as problem:
        _fail(str(problem), problem.exit_code)
    except OSError as problem:
        if problem.errno not in _DISK_ERRORS and not isinstance(problem, PermissionError):
            raise
        reason = _DISK_ERRORS.get(problem.errno or 0, "no permission")
        where = problem.filename or Path(Globals.root)
        _fail(f"{where}: {reason}. Nothing half-done was published; make room or access and run the same command again.", 1)
    except KeyboardInterrupt:
        _fail(_STOPPED, _INTERRUPTED)
    except SystemExit as end:  # Typer turns Ctrl-C into this
        if end.code == _INTERRUPTED:
            _fail(_STOPPED, _INTERRUPTED)
        raise


def _fail(message: str, code: int) -> None:
    print(f"curate: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
