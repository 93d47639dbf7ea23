"""docs/adding-a-source.md, followed to the letter: its fenced commands are run and what it shows must be what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
DOC = REPOSITORY / "docs" / "adding-a-source.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def comparable(text: str) -> str:
    """`text` without sizes of pictures, which differ by a few bytes with the library that compressed them."""
    return re.sub(r"[\d,]+ bytes", "N bytes", text)


def run(command: list[str], folder: Path) -> str:
    own = {"PYTHONPATH": str(REPOSITORY), "CURATION_RUNTIME": "process", "PREFECT_HOME": str(folder / "prefect")}
    environment = {**os.environ, **own, "NO_COLOR": "1", "COLUMNS": "80", "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder / "work", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_can_be_followed_to_the_letter(tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "curate"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flows "$@"\n')
    command.chmod(0o755)
    printed: list[str] = []
    kinds: list[str] = []
    for kind, text in FENCE.findall(DOC.read_text()):
        kinds.append(kind)
        if kind == "python":
            printed.append(run([sys.executable, "-c", text], tmp_path))
        elif kind == "sh":
            printed.append(run(["bash", "-euc", text], tmp_path))
        else:
            assert comparable(text) in comparable(printed[-1])
    assert kinds == ["python", "sh", "yaml", "sh", "sh", "text", "text", "sh", "sh"]
    checked, ingested = printed[-2:]
    assert re.search(r"street-signs +CC0-1.0 +as expected +\S+ kB +12 +12", checked)
    assert re.search(r"street-signs +12 +10 +2 +empty_answer 1, missing_image 1", " ".join(ingested.split("\n")))
    assert "not ingested" not in ingested
