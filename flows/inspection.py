"""Looking at streams is the work of `training`, which flows do not import: it is asked in a process of its own."""

import subprocess
import sys
from collections.abc import Mapping


def inspect_stream(command: str, release: str, options: Mapping[str, object]) -> int:
    """Run `training.inspect` with our output, and return its exit status. True makes an option a flag, False leaves it out."""
    line = [sys.executable, "-m", "training.inspect", "--program", "curate", command, release]
    for name, value in options.items():
        if value is True:
            line.append(f"--{name}")
        elif value is not None and value is not False:
            line.append(f"--{name}={value}")
    return subprocess.run(line, check=False).returncode
