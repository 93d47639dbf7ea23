import io
import re
import time

import pytest
from rich.console import Console

from curation.runtime.progress import BarReporter, LineReporter, Reporter, rate, reporter_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(reporter: Reporter) -> None:
    reporter.note("begins [here]")
    with reporter.track("outer", 2) as outer, reporter.track("inner", 3) as inner:
        outer.advance(1)
        inner.advance(3)


def test_lines_are_few(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    work(reporter_for(stream))
    assert stream.getvalue() == "begins [here]\n"
    monkeypatch.setattr("curation.runtime.progress.LINE_INTERVAL_SECONDS", 0.0)
    work(reporter_for(stream))
    [outer, inner] = stream.getvalue().splitlines()[-2:]
    assert re.fullmatch(r"outer: 1 of 2 \([\d,.]+/s, \d+ s left\)", outer)
    assert re.fullmatch(r"inner: 3 of 3 \([\d,.]+/s\)", inner)


@pytest.mark.parametrize(
    ("units_per_second", "told"), [(0.0, "0.0/s"), (0.05, "3.0/min"), (2.34, "2.3/s"), (12.3, "12/s"), (123_456.0, "123,456/s")]
)
def test_rates_are_short(units_per_second: float, told: str):
    assert rate(units_per_second) == told


def test_bars_fit_80_columns_with_their_rate():
    stream = Terminal()
    reporter = BarReporter(Console(file=stream, force_terminal=True, width=80, color_system=None))
    with reporter.track("looking at pictures of a long name", 123_456) as track:
        for _ in range(3):
            track.advance(1_000)
            time.sleep(0.12)
    lines = [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", stream.getvalue())]
    assert max(map(len, lines)) <= 80
    assert any("/123,456" in line or "123456" in line for line in lines)
    assert any("/s" in line for line in lines)


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]):
    stream = Terminal()
    work(reporter_for(stream, is_quiet=True))
    work(LineReporter(None))
    assert stream.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_bars_end_with_their_work():
    stream = Terminal()
    reporter = BarReporter(Console(file=stream, force_terminal=True, width=120))
    with pytest.raises(ZeroDivisionError), reporter.track("breaks", 2):
        raise ZeroDivisionError
    work(reporter)
    assert "begins [here]" in stream.getvalue()


def test_a_terminal_gets_bars():
    assert isinstance(reporter_for(Terminal()), BarReporter)
