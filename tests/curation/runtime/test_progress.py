import io

import pytest
from rich.console import Console

from curation.runtime.progress import BarReporter, LineReporter, Reporter, reporter_for


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
    assert stream.getvalue().endswith("outer: 1 of 2\ninner: 3 of 3\n")


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
