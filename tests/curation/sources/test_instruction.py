from curation.errors import RejectReason
from curation.sources.instruction import instruction
from tests.support.upstream import part

LAYOUT = part(layout="instruction", fields={"instruction": "i", "input": "in", "output": "o"})


def test_the_input_follows_the_instruction():
    records = [{"i": "Sum.", "in": "1 2", "o": "3"}, {"i": "Say.", "in": " ", "o": "x"}, {"i": "Say.", "o": "x"}]
    assert instruction(records, LAYOUT).rows == [["Sum.\n\n1 2", "3"], ["Say.", "x"], ["Say.", "x"]]


def test_what_is_missing_is_named():
    for record in ({"i": "x"}, {"o": "x"}, {"in": "x", "o": "y"}):
        assert instruction([record], LAYOUT).rows[0].reason is RejectReason.MISSING_FIELD
