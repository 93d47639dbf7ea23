import pytest

from curation.errors import MixtureError
from curation.token_counts import TokenizerFile
from tests.support.tokenizer_files import write_letter_tokenizer


def test_markers_and_truncation_do_not_count(tmp_path):
    file = TokenizerFile.find(write_letter_tokenizer(tmp_path))
    assert file.count([["<image>\nab c", "defg"], [], ["<image>"], ["hij"]]) == [7, 0, 0, 3]
    assert file.count([]) == []


def test_a_folder_stands_for_its_file_and_content_alone_counts(tmp_path):
    first, second = write_letter_tokenizer(tmp_path / "a"), write_letter_tokenizer(tmp_path / "b")
    found = TokenizerFile.find(tmp_path / "a")
    assert (found.path, found.unit) == (first, TokenizerFile.find(second).unit)
    assert found.sha256 in found.unit


@pytest.mark.parametrize("content", [None, b"{}", b"\xff", b'{"model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MixtureError, match=r"tokenizer\.json'"):
        TokenizerFile.find(path)


def test_a_tokenizer_that_changes_meanwhile_is_noticed(tmp_path):
    path = write_letter_tokenizer(tmp_path)
    found = TokenizerFile(path, "0" * 64)
    with pytest.raises(MixtureError, match="has changed since the build began"):
        found.count([["a"]])
