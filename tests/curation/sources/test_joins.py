from pathlib import Path
from typing import Any

import pytest

from curation.catalog.spec import Join
from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.sources.joins import joined
from tests.support.upstream import write_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "1.json": '{"x": NaN}', "bad.json": "{", "deep.json": "[" * 9_999, "1.txt": "text\n", "lines.lst": "zero\none\n",
        "1.csv": "1,2,a, b\n\n3,4,c", "a b.json": "[1]", "latin.txt": b"\xff",
    }  # fmt: skip
    (tmp_path / "secret.json").write_text("{}")
    folder = write_files(tmp_path / "root", files)
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    return folder


def found(root: Path, **join: Any) -> Any:
    return joined(root, {"id": 1, "x": "kept"}, {"more": Join.model_validate(join)})["more"]


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ({"file": "{id}.json"}, {"x": None}),
        ({"file": "a b.json"}, [1]),
        ({"file": "{id}.txt", "format": "text"}, "text\n"),
        ({"file": "lines.lst", "format": "lines", "line": "id"}, "one"),
        ({"file": "{id}.csv", "format": "table"}, [["1", "2", "a", " b"], ["3", "4", "c"]]),
        ({"file": "{id}.csv", "format": "table", "columns": 3}, [["1", "2", "a, b"], ["3", "4", "c"]]),
    ],
)
def test_a_second_file_becomes_a_field(root: Path, join: dict, expected: Any):
    assert found(root, **join) == expected
    assert joined(root, {"id": 1, "x": "kept"}, {"more": Join.model_validate(join)})["x"] == "kept"


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ({"file": "{name}.json"}, RejectReason.MISSING_FIELD),
        ({"file": "none.json"}, RejectReason.MISSING_FIELD),
        ({"file": "bad.json"}, RejectReason.UNSUPPORTED_VALUE),
        ({"file": "deep.json"}, RejectReason.UNSUPPORTED_VALUE),
        ({"file": "latin.txt", "format": "text"}, RejectReason.UNSUPPORTED_VALUE),
        ({"file": "lines.lst", "format": "lines", "line": "x"}, RejectReason.UNSUPPORTED_VALUE),
        ({"file": "lines.lst", "format": "lines", "line": "{id}0"}, RejectReason.UNSUPPORTED_VALUE),
        ({"file": "link.json"}, RejectReason.PATH_ESCAPES),
    ],
)
def test_a_second_file_that_cannot_be_used_has_a_reason(root: Path, join: dict, expected: RejectReason):
    with pytest.raises(Unusable) as caught:
        found(root, **join)
    assert caught.value.reason is expected


def test_a_name_from_data_cannot_leave(root: Path):
    with pytest.raises(Unusable) as caught:
        joined(root, {"name": "../secret"}, {"more": Join(file="{name}.json")})
    assert caught.value.reason is RejectReason.PATH_ESCAPES
