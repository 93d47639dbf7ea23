from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.sources.safe_paths import inside, relative_name, stays_inside
from tests.support.upstream import write_files

ESCAPES = ["/etc/passwd", "../x", "a/../../x", "a/..", "C:/x", "c:\\x", "a\\..\\x", "..", "//host/x", "a\0b"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_leave_are_refused(tmp_path: Path, name: str):
    for check in (relative_name, lambda name: inside(tmp_path, name)):
        with pytest.raises(Unusable) as caught:
            check(name)
        assert caught.value.reason is RejectReason.PATH_ESCAPES


@pytest.mark.parametrize(
    ("name", "expected"),
    [("./a/b.png", "a/b.png"), ("a//b.png", "a/b.png"), ("a b&c/d..e", "a b&c/d..e"), ("é/中.png", "é/中.png")],
)
def test_names_have_one_form(name: str, expected: str):
    assert relative_name(name) == expected


def test_links_out_of_the_folder_are_refused(tmp_path: Path):
    root, secret = tmp_path / "root", tmp_path / "secret"
    (root / "real").mkdir(parents=True)
    secret.mkdir()
    (secret / "x").write_text("secret")
    (root / "file").symlink_to(secret / "x")
    (root / "folder").symlink_to(secret)
    (root / "within").symlink_to(root / "real")
    for name in ("file", "folder/x"):
        with pytest.raises(Unusable) as caught:
            inside(root, name)
        assert caught.value.reason is RejectReason.PATH_ESCAPES
    assert inside(root, "within/x") == root / "real" / "x"


def test_a_folder_whose_name_begins_alike_is_outside(tmp_path: Path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root-of-others").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root-of-others")
    with pytest.raises(Unusable):
        inside(tmp_path / "root", "link/x")


@given(name=st.text(st.sampled_from("./\\a:\0~"), max_size=12))
def test_no_name_leads_outside(name: str):
    root = Path("/nowhere/root")
    try:
        found = inside(root, name)
    except Unusable:
        return
    assert found.is_relative_to(root)


def test_a_snapshot_of_a_hub_cache_links_to_its_blobs_and_nowhere_else(tmp_path: Path):
    repository = tmp_path / "hub" / "datasets--owner--name"
    snapshot = repository / "snapshots" / "abc"
    write_files(repository, {"blobs/1234": b"x", "refs/main": b"abc", "other/1": b"o"})
    write_files(tmp_path, {"secret": b"s"})
    (snapshot / "data").mkdir(parents=True)
    (snapshot / "data" / "a.json").symlink_to("../../../blobs/1234")
    (snapshot / "data" / "out").symlink_to(tmp_path / "secret")
    (snapshot / "data" / "other").symlink_to("../../../other/1")
    for root in (snapshot, snapshot / "data"):
        name = "data/a.json" if root == snapshot else "a.json"
        assert inside(root, name).read_bytes() == b"x"
        assert stays_inside(root, root / name)
        for bad in ("out", "other"):
            assert not stays_inside(root, root / name.replace("a.json", bad))
            with pytest.raises(Unusable, match="link out of its folder"):
                inside(root, name.replace("a.json", bad))
