import re
from pathlib import Path

import pytest

from benchmarks.stream_release import write_release
from training.stream import StreamOptions

PAGE = Path(__file__).parents[2] / "docs" / "streaming.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_demonstration_holds(tmp_path):
    """Run as a reader would, on a release of the same kind."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[-1]
    release = write_release(tmp_path / "noise", 2000, draw=lambda source: source.randbytes(1000))
    names: dict[str, object] = {}
    exec(code.replace("/tmp/noise", str(release)), names)
    assert len(names["seen"]) == 2000


def test_every_argument_is_documented():
    page = PAGE.read_text()
    for name in StreamOptions.__annotations__:
        assert f"`{name}`" in page or f"`{name}=" in page or f", {name}" in page or f"{name}=" in page, name
