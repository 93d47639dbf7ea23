from pathlib import Path

import pytest
from pydantic import Field

from curation.errors import CatalogError, MixtureError
from curation.yaml_file import Settings, YamlFile, nearest


class Inner(Settings):
    size: int = 0


class Outer(Settings):
    name: str
    inner: Inner = Inner()
    listed: list[Inner] = Field(default=[])


def message(tmp_path: Path, text: str | bytes) -> str:
    """What is said of a file that holds `text`; checks that it names the file and exits with 2."""
    path = tmp_path / "spec.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MixtureError) as caught:
        file = YamlFile(path, error=MixtureError)
        file.parse(Outer, file.value)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("name: x\nnmae: y\n", 2, "unknown key 'nmae' (did you mean 'name'?); valid keys: inner, listed, name"),
        ("name: x\ninner:\n  siz: 1\n", 3, "unknown key 'siz' (did you mean 'size'?); valid keys: size"),
        ("name: x\nlisted:\n- size: 1\n- siez: 1\n", 4, "unknown key 'siez' (did you mean 'size'?)"),
        ("inner: {size: 1}\n", 1, "required key 'name' is missing"),
        ("name: x\ninner:\n\n  size: one\n", 4, "found text 'one'"),
        ("name: 5\n", 1, "found a number 5"),
        ("name: x\ninner: [1]\n", 2, "valid dictionary"),
        ("name: x\nname: y\n", 2, "stands twice"),
        ("name: x\ninner:\n  size: 1\n  size: 1\n", 4, "inner.size: this key stands twice"),
        ("name: &a x\n", 1, "anchors and aliases"),
        ("name: x\ninner: *a\n", 2, "anchors and aliases"),
        ("name: x\ninner:\n  <<: {size: 1}\n", 3, "unknown key '<<'"),
        ("name: !!python/object/apply:os.system [ls]\n", 1, "is not allowed"),
        ("name: x\ninner: !!python/object:os.system {size: 1}\n", 2, "is not allowed"),
        ("name: !!binary aGk=\n", 1, "is not allowed"),
        ("name: x\n? [a, b]\n: 1\n", 1, "a key that is not plain text"),
        ("name: [x\n", 2, "not valid YAML"),
        ("name: x\n---\nname: y\n", 2, "not valid YAML"),
        ("- name\n", 1, "found a list, expected a mapping"),
        ("", 1, "found nothing, expected a mapping"),
    ],
)
def test_what_is_wrong_is_shown_with_its_line(tmp_path: Path, text: str, line: int, expected: str):
    found = message(tmp_path, text)
    assert found.startswith(f":{line}: ")
    assert expected in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"name: \x00", "not valid YAML"),
        ("[" * 500 + "]" * 500, "nested too deeply"),
        (b"#" * (5 << 20), "MiB"),
    ],
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, text: str | bytes, expected: str):
    assert expected in message(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(CatalogError, match="cannot be read"):
            YamlFile(path, error=CatalogError)


def test_values_are_plain(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("a: [1, 2.5, yes, null, 2024-01-01, 'x']\n1: one\nyes: two\n")
    assert YamlFile(path, error=CatalogError).value == {
        "a": [1, 2.5, True, None, "2024-01-01", "x"], "1": "one", "yes": "two",
    }  # fmt: skip


def test_nearest_says_nothing_when_nothing_is_near():
    assert nearest("ocrr", ["ocr", "math"]) == " (did you mean 'ocr'?)"
    assert nearest("zzz", ["ocr", "math"]) == ""
