import pytest

from tests.curation.report.made_up import MadeUp, write_made_up


@pytest.fixture
def made_up(tmp_path) -> MadeUp:
    return write_made_up(tmp_path)
