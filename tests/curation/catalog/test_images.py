"""Where pictures are, as rows may say it; what is wrong is refused at its line."""

from pathlib import Path
from typing import Any

import pytest

from curation.errors import CatalogError
from tests.support.upstream import part, write_catalog

ROW: dict[str, Any] = {
    "category": "ocr",
    "layout": "qa",
    "location": {"files": "a.json"},
    "fields": {"question": "q", "answer": "a"},
}
HUB = {"hub": "owner/name"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"images": {"url": "link", "path": "p"}}, "exactly one of `path`, `url`, `bytes` and `members`"),
        ({"images": {"url": "link", "folder": "x"}}, "`folder` needs `path`"),
        ({"images": {"url": "link", "by_reference": "web"}}, "by_reference needs `path`"),
        ({"images": {"url": "{link"}}, "a single '{'"),
        ({"images": {"url": {"text": "http://x/a.png"}}}, "url: expected a field or a template"),
        ({"images": {"path": "p", "zip": "x.zip", "tar": "x.tar"}}, "pictures are in one place, found zip and tar"),
        ({"images": {"path": "p", "zip": []}}, "images.zip"),
        ({"images": {"path": "p", "zip": ["a.zip", "../b.zip"]}}, "'../b.zip' leaves the location"),
        ({"images": {"path": "p", "zip": "hf://datasets/owner/name"}}, "expected an archive on the Hub"),
        ({"images": {"path": "p", "strip": "x"}}, "strip: stands before names of pictures in `zip` or `tar`"),
        ({"images": {"path": "p", "zip": "x.zip", "strip": "../x"}}, "'../x' leaves the location"),
        ({"images": {"url": "link", "urls": "x"}}, "unknown key 'urls' (did you mean 'url'?)"),
        (
            {"location": HUB, "images": {"path": "p", "folder": "pics"}},
            "location: {root: hf://datasets/owner/name, files: ...}",
        ),
        ({"location": HUB, "reader": {"format": "json"}}, "a Hub dataset comes as `format: parquet`"),
        ({"reader": {"json_fields": [""]}}, "json_fields"),
        (
            {"location": {"release": "none"}, "images": {"url": "link"}},
            "rows of a release find their pictures by `archives: true`",
        ),
    ],
)
def test_a_row_that_is_wrong_is_refused_at_its_line(tmp_path: Path, row: dict[str, Any], expected: str):
    with pytest.raises(CatalogError) as caught:
        write_catalog(tmp_path, {"s": ROW | row})
    assert expected in str(caught.value)
    assert f"{tmp_path / 'catalog.yaml'}:" in str(caught.value)


def test_archives_are_one_or_several_here_or_elsewhere():
    images = part(images={"path": "p", "tar": ["a.tar", "hf://datasets/o/n@v1/b.tar", "s3://bucket/c.tar_part*"]}).images
    assert images is not None and not images.is_loose
    assert images.packed == ("a.tar", "hf://datasets/o/n@v1/b.tar", "s3://bucket/c.tar_part*")
    assert images.packed_here == ("a.tar",)


def test_a_hub_dataset_may_say_which_columns_hold_json():
    found = part(location=HUB, reader={"json_fields": ["x"]}).reader
    assert (found.format, found.json_fields) == ("parquet", ["x"])
