from curation.report.image_members import image_members
from tests.curation.report.made_up import png, sample, write_source


def test_members_are_named_as_in_shards(tmp_path):
    image = png((1, 2, 3))
    rows = [sample("a", "one", "x", [image]), sample("a", "none", "x"), sample("a", "three", "x", [image] * 3)]
    rows[2]["images"][1] |= {"extension": "jpg"}

    folder = write_source(tmp_path / "a" / "00", rows)

    assert image_members([folder]) == ["png", "0.png", "1.jpg", "2.png"]


def test_sources_without_images_add_nothing(tmp_path):
    folders = [write_source(tmp_path / "a" / "00", []), write_source(tmp_path / "b" / "00", [sample("b", "q", "x")])]

    assert image_members(folders) == []
