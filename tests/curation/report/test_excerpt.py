import pytest

from curation.report.excerpt import HEAD_LINES, REST_CHARS, cut, excerpt, printable


def _length(parts: tuple[str, ...]) -> int:
    return sum(map(len, parts))


def test_short_text_is_whole():
    assert excerpt(" Why?\n") == excerpt("Why?")
    assert (excerpt("Why?").head, excerpt("Why?").rest, excerpt("Why?").num_cut) == (("Why?",), (), 0)


def test_markers_split_the_text():
    assert excerpt("<image>\n<image>\nWhich?").head == ("", "", "Which?")
    assert excerpt("Here: <image>\nWhich?").head == ("Here: ", "Which?")


def test_long_text_is_cut_between_words_and_counted():
    text = "word " * 3_000

    shown = excerpt(text)

    assert shown.head[0].endswith("word") and _length(shown.head) <= 420
    assert shown.num_cut == len(text.strip()) - _length(shown.head) - REST_CHARS


def test_many_lines_are_cut_too():
    lines = [f"line {number}" for number in range(40)]

    shown = excerpt("\n".join(lines))

    assert len(shown.head[0].splitlines()) <= HEAD_LINES
    assert (shown.head[0] + "\n" + shown.rest[0]).split("\n") == lines


@pytest.mark.parametrize("text", ["x" * 10_000, "\n" * 5_000 + "x", "漢" * 2_000])
def test_no_text_is_too_odd(text):
    shown = excerpt(text)

    assert _length(shown.head) + _length(shown.rest) + shown.num_cut == len(text.strip())


def test_what_cannot_be_written_is_replaced():
    assert printable("a\x00b\ud800c\r\nd\te") == "a\ufffdb\ufffdc\nd\te"
    assert cut("abcdef", 3) == "abc…" and cut("abc", 3) == "abc"
