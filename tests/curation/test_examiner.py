from collections.abc import Iterator

import pytest

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.examiner import Examiner
from curation.imaging import examine
from tests.support.poisoned import poison, poisonous
from tests.support.upstream import picture

LIMIT = 10_000


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    """One whose children die of poison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", poisonous()["PYTHONPATH"])
        with Examiner() as found:
            yield found


def test_a_child_finds_the_same_facts(examiner: Examiner):
    for data in (picture(1), picture(2, "JPEG"), picture(3, "GIF")):
        assert examiner.examine(data, max_pixels=LIMIT) == examine(data, max_pixels=LIMIT)


@pytest.mark.parametrize("data", [b"", b"no picture", picture(1, size=(60, 60))[:-30]])
def test_a_child_refuses_for_the_same_reason(examiner: Examiner, data: bytes):
    with pytest.raises(Unusable) as here:
        examine(data, max_pixels=LIMIT)
    with pytest.raises(Unusable) as there:
        examiner.examine(data, max_pixels=LIMIT)
    assert (there.value.reason, there.value.detail) == (here.value.reason, here.value.detail)


def test_a_picture_that_kills_is_named_and_the_next_is_examined(examiner: Examiner):
    with pytest.raises(Unusable, match="kills the process") as raised:
        examiner.examine(poison(), max_pixels=LIMIT)
    assert raised.value.reason is RejectReason.CRASHED_DECODER
    assert examiner.examine(picture(4), max_pixels=LIMIT) == examine(picture(4), max_pixels=LIMIT)


def test_what_a_child_is_killed_for_once_is_not_blamed_on_the_picture():
    with Examiner() as examiner:
        examiner.examine(picture(1), max_pixels=LIMIT)
        assert examiner._child is not None
        examiner._child.kill()
        assert examiner.examine(picture(2), max_pixels=LIMIT) == examine(picture(2), max_pixels=LIMIT)
