"""Slices of real public sources, which tests read where they lie and the project does not hold."""

import os
from pathlib import Path

import pytest

from tests.end_to_end.conftest import REPOSITORY


def real_slices() -> Path:
    """Their folder. Skips the test that asks where there is none, and fails it in CI."""
    folder = Path(os.environ.get("CURATION_REAL_DATA", REPOSITORY.parent / "shared" / "data")).absolute()
    if not folder.is_dir():
        message = f"no real slices at '{folder}'; set CURATION_REAL_DATA to the folder that holds them"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
