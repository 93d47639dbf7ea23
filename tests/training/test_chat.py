import importlib.util
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from tests.support.golden import golden_path
from training.chat import TEMPLATES, get_template, tokenize_conversation
from training.errors import ConfigError, SampleError
from training.layout import IGNORE_ID, IMAGE_ID
from training.tokenizers import build_byte_tokenizer

CASES = [
    ("llama_3", "llama3_nobos"), ("llama_3", "llama3_bos"), ("v1", "sp_legacyFalse_bos"), ("v1", "sp_legacyTrue_bos"),
    ("plain", "sp_legacyFalse_bos"), ("chatml_direct", "sp_chatml_legacyTrue_nobos"),
    ("chatml_direct", "sp_chatml_legacyFalse_bos"), ("chatml_direct", "sp_chatml_legacyFalse_nobos"),
    ("phi3", "sp_phi3_rstrip_legacyFalse_bos"), ("phi3", "sp_phi3_legacyFalse_nobos"),
]  # fmt: skip
ADDED = {"chatml": ["<|im_start|>", "<|im_end|>"], "phi3": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]}


def golden_tokenizer(name, folder):
    if name.startswith("llama3"):
        return PreTrainedTokenizerFast(tokenizer_file=str(golden_path(f"tokenizers/tiny_{name}.json")))
    if not importlib.util.find_spec("sentencepiece"):
        pytest.skip("sentencepiece is not installed, so its tokenizers cannot be loaded")
    (folder / "tokenizer.model").write_bytes(golden_path("tokenizers/tiny_sp.model").read_bytes())
    tokenizer = LlamaTokenizer.from_pretrained(folder, legacy="legacyTrue" in name, add_bos_token="_bos" in name)
    for family, tokens in ADDED.items():
        if family in name:
            added = [AddedToken(token, rstrip="rstrip" in name, special=True, normalized=False) for token in tokens]
            tokenizer.add_special_tokens({"additional_special_tokens": added})
    return tokenizer


@pytest.mark.parametrize(("template", "name"), CASES)
def test_ids_and_labels_equal_the_published_code(template, name, tmp_path):
    tokenizer = golden_tokenizer(name, tmp_path)
    cases = [
        c
        for c in json.loads(golden_path("labels.json").read_text())["cases"]
        if (c["template"], c["tokenizer"]) == (template, name)
    ]
    assert cases
    for case in cases:
        ids, labels = tokenize_conversation(case["conversations"], tokenizer, template)
        if not case["mismatch_warning"]:
            assert ids == case["input_ids"]
            assert labels == case["labels"]
        answers = [turn["value"] for turn in case["conversations"] if turn["from"] == "gpt"]
        trained = tokenizer.decode([label for label in labels if label != IGNORE_ID])
        assert [answer for answer in answers if answer not in trained] == []


def test_every_published_case_is_covered():
    cases = json.loads(golden_path("labels.json").read_text())["cases"]
    assert {(case["template"], case["tokenizer"]) for case in cases} == set(CASES)


def turns(*texts):
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


def trained_text(labels):
    return build_byte_tokenizer().decode([label for label in labels if label != IGNORE_ID])


printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=20)


@given(
    template=st.sampled_from([name for name in TEMPLATES if name != "plain"]), texts=st.lists(printable, min_size=2, max_size=6)
)
def test_exactly_answers_and_end_tokens_are_trained(template, texts):
    texts = texts[: len(texts) // 2 * 2]
    ids, labels = tokenize_conversation(turns(*texts), build_byte_tokenizer(), template)
    assert all(label in {IGNORE_ID, token} for token, label in zip(ids, labels, strict=True))
    assert trained_text(labels) == "".join(answer + TEMPLATES[template].gpt_end for answer in texts[1::2])


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What <image> is it?", "<image>\nWhat  is it?"),
        ("Compare <image> with <image>.", "Compare <image> with <image>."),
        ("No picture.", "No picture."),
    ],
)
def test_one_image_goes_in_front_and_several_stay(question, expected):
    ids, _ = tokenize_conversation(turns(question, "ok"), build_byte_tokenizer(), get_template("phi3", system="S"))
    text = "<image>".join(build_byte_tokenizer().decode(part) for part in split_at_images(ids))
    assert text == f"<|system|>\nS<|end|>\n<|user|>\n{expected}<|end|>\n<|assistant|>\nok<|end|>"


def split_at_images(ids):
    parts = [[]]
    for token in ids:
        if token == IMAGE_ID:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def test_images_in_a_later_turn_are_kept():
    ids, _ = tokenize_conversation(turns("Hello", "Hi", "<image>\nAnd this?", "A cat"), build_byte_tokenizer(), "v1")
    assert ids.count(IMAGE_ID) == 1


def test_a_marker_in_an_answer_is_text():
    ids, labels = tokenize_conversation(turns("Which tag?", "<image>"), build_byte_tokenizer(), "v1")
    assert IMAGE_ID not in ids
    assert trained_text(labels) == "<image></s>"


def test_a_first_turn_of_the_assistant_is_dropped():
    with_greeting = [{"from": "gpt", "value": "Welcome"}, *turns("q", "a")]
    assert tokenize_conversation(with_greeting, build_byte_tokenizer(), "v1") == tokenize_conversation(
        turns("q", "a"), build_byte_tokenizer(), "v1"
    )


@pytest.mark.parametrize(
    "conversation", [[], turns("q"), [*turns("q", "a"), {"from": "gpt", "value": "b"}], [{"from": "human"}, {"from": "gpt"}]]
)
def test_unusable_conversations_are_refused(conversation):
    with pytest.raises(SampleError):
        tokenize_conversation(conversation, build_byte_tokenizer(), "v1")


def test_unknown_templates_name_the_valid_ones():
    with pytest.raises(ConfigError, match="'gemma'; valid are v1, llama_3"):
        get_template("gemma")
