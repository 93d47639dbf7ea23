"""Golden values of the published model code, where they are present."""

import json
import os
from pathlib import Path

import pytest
from safetensors import safe_open

_DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "reference"


def golden_path(name: str) -> Path:
    """A golden file below CURATION_REFERENCE; skips the test where there is none."""
    path = Path(os.environ.get("CURATION_REFERENCE", _DEFAULT)) / "sva_golden" / name
    if not path.exists():
        pytest.skip(f"golden file '{path}' is absent; set CURATION_REFERENCE to the folder that holds sva_golden/")
    return path


class Golden:
    """Tensors by name, and the metadata with its JSON values parsed."""

    def __init__(self, name: str) -> None:
        with safe_open(golden_path(name), "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            self.metadata = {key: _parse(value) for key, value in file.metadata().items()}

    def __getitem__(self, name: str):
        return self.tensors[name]

    def below(self, prefix: str):
        """Tensors whose names start with `prefix`, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}

    def series(self, prefix: str):
        """Tensors `prefix`0, `prefix`1, ... in order."""
        found = self.below(prefix)
        return [found[str(number)] for number in range(len(found))]


def _parse(value: str):
    try:
        return json.loads(value)
    except ValueError:
        return value
