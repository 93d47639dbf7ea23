import pytest

from curation.catalog.locations import HttpFile, HubDataset, LocalFiles, ReleaseRows, Upstream


@pytest.mark.parametrize(
    ("location", "source", "image", "expected"),
    [
        (ReleaseRows(release="r", source="a.json", folder="a"), "a.json", "a/1.png", True),
        (ReleaseRows(release="r", source="a.json", folder="a"), "a.json", "a/deep/1.png", True),
        (ReleaseRows(release="r", source="a.json", folder="a"), "b.json", "a/1.png", False),
        (ReleaseRows(release="r", source="a.json", folder="a"), "a.json", "ab/1.png", False),
        (ReleaseRows(release="r", source="a.json", folder="a"), "a.json", "a", False),
        (ReleaseRows(release="r", source="a.json", folder="a"), "a.json", None, False),
        (ReleaseRows(release="r", source="a.json", folder="a"), None, "a/1.png", False),
        (ReleaseRows(release="r", source="a.json"), "a.json", None, True),
        (ReleaseRows(release="r", source="a.json"), "a.json", "a/1.png", False),
        (ReleaseRows(release="r", folder="hf/x"), None, "hf/x/1.png", True),
        (ReleaseRows(release="r", folder="hf/x"), None, "hf/xy/1.png", False),
        (ReleaseRows(release="r", folder="hf/x"), None, "hf/1.png", False),
        (ReleaseRows(release="r", source=["a.*", "b.json"], folder=["*", None]), "a.json", "c/1.png", True),
        (ReleaseRows(release="r", source=["a.*", "b.json"], folder=["*", None]), "b.json", None, True),
        (ReleaseRows(release="r", source=["a.*", "b.json"], folder=["*", None]), "c.json", None, False),
        (ReleaseRows(release="r", folder="*"), "a.json", "loose.png", False),
    ],
)
def test_rows_are_claimed_by_annotation_file_and_image_folder(
    location: ReleaseRows, source: str | None, image: str | None, expected: bool
):
    assert location.claims(source, image) is expected


def test_an_image_folder_lies_in_its_own_archive_or_the_default():
    archives = {"default": "{folder}.tar.gz", "a": ["a/1.tar", "a/2.tar_*"], "b": "hf://datasets/o/n/{folder}.tar"}
    upstream = Upstream(name="u", root="x", records=["r.jsonl"], archives=archives)
    assert upstream.archives_of("c") == ("c.tar.gz",)
    assert upstream.archives_of("a") == ("a/1.tar", "a/2.tar_*")
    assert upstream.archives_of("b") == ("hf://datasets/o/n/b.tar",)
    assert Upstream(name="u", root="x", records="r").archives_of("c") == ()


def test_a_file_at_a_url_has_a_name_here():
    assert HttpFile(url="https://a.org/b/c%20d.json?x=1#y").file == "c d.json"
    assert HttpFile(url="https://a.org/b/c.json", name="d/e.json").file == "d/e.json"


def test_a_url_is_not_here_and_a_location_says_where_it_is():
    assert LocalFiles(root="data", files="*").is_here
    assert not LocalFiles(root="s3://bucket/data", files="*").is_here
    assert str(HubDataset(hub="a/b", config="c")) == "hub:a/b/c:train@main"
    assert str(ReleaseRows(release="r", source=["a", "b"])) == "r:a,b"
