"""A picture that kills the process that decodes it, and the environment in which it does."""

import os
from pathlib import Path

from PIL import Image

from tests.support.upstream import encoded

REPOSITORY = Path(__file__).parents[2]
POISON_SIZE = (13, 7)


def poison() -> bytes:
    """A sound picture to all but processes in `poisonous`."""
    return encoded(Image.new("RGB", POISON_SIZE, (1, 2, 3)))


def poisonous(**more: str) -> dict[str, str]:
    """The environment of processes that die of `poison`."""
    path = os.pathsep.join((str(Path(__file__).parent / "poison"), str(REPOSITORY)))
    return {**os.environ, "PYTHONPATH": path, **more}
