"""The three files together."""

import dataclasses

from curation.report import CARD_NAME, CROISSANT_NAME, PAGE_NAME, write_report
from tests.curation.report.made_up import write_made_up

NAMES = (CARD_NAME, CROISSANT_NAME, PAGE_NAME)


def _written(made_up) -> dict[str, bytes]:
    write_report(made_up.folder, made_up.manifest, made_up.source_folders)
    return {name: (made_up.folder / name).read_bytes() for name in NAMES}


def test_same_release_gives_same_bytes_whatever_the_clock_and_place(made_up, tmp_path):
    elsewhere = write_made_up(tmp_path / "elsewhere")
    elsewhere.manifest["created"] = "2031-12-31T23:59:59+00:00"

    assert _written(made_up) == _written(elsewhere)
    assert _written(made_up) == _written(made_up)


def test_nothing_but_the_three_files_is_left_behind(made_up):
    before = {path.name for path in made_up.folder.iterdir()}

    _written(made_up)

    assert {path.name for path in made_up.folder.iterdir()} == before | set(NAMES)


def test_a_report_can_do_without_the_sources_folders(made_up):
    without = dataclasses.replace(made_up, source_folders={})

    page = _written(without)[PAGE_NAME].decode()

    assert "No examples are at hand." in page
    assert "none are at hand to show" in page


def test_no_path_of_this_machine_is_published(made_up, tmp_path):
    assert not [name for name, content in _written(made_up).items() if str(tmp_path).encode() in content]
