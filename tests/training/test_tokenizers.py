import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import ConfigError
from training.tokenizers import SPECIAL_TOKENS, build_byte_tokenizer, load_tokenizer

TOKENIZER = build_byte_tokenizer()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<")))
def test_one_token_a_byte_and_back(text):
    ids = TOKENIZER(text).input_ids
    assert len(ids) == len(text.encode())
    assert TOKENIZER.decode(ids) == text


def test_special_tokens_are_single():
    assert [len(TOKENIZER(token).input_ids) for token in SPECIAL_TOKENS] == [1] * len(SPECIAL_TOKENS)
    assert len(TOKENIZER) == 256 + len(SPECIAL_TOKENS)


def test_a_saved_tokenizer_loads_from_its_folder(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)("héllo</s>").input_ids == TOKENIZER("héllo</s>").input_ids


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        load_tokenizer(tmp_path / "gone")
