from curation.errors import RejectReason
from curation.sources.caption import DEFAULT_QUESTION, caption
from tests.support.upstream import part


def test_a_caption_answers_a_request():
    layout = part(layout="caption", fields={"caption": "c"})
    rows = caption([{"c": "A hat."}, {}], layout).rows
    assert rows[0] == [DEFAULT_QUESTION.text, "A hat."]
    assert rows[1].reason is RejectReason.MISSING_FIELD


def test_the_request_may_be_given_and_the_marker_goes():
    fields = {"caption": "c", "question": {"text": "What is it?"}}
    layout = part(layout="caption", fields=fields, images={"path": "image", "marker": "<img>"})
    assert caption([{"c": "<img> A hat.<img>"}], layout).rows == [["What is it?", "A hat."]]
