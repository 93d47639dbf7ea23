"""Tiny models of texts and of pictures with random weights, as transformers saves them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
)


def write_text_model(folder: Path, words: Sequence[str], seed: int = 0) -> Path:
    """A BERT of one layer that hardly minds the order of words: the same words in another order mean nearly the same to it."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *dict.fromkeys(words)])}
    tokenizer = Tokenizer(WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.mul_(0.05)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def write_vision_model(folder: Path, seed: int = 0) -> Path:
    """A DINOv2 of one layer over pictures of 28 x 28."""
    torch.manual_seed(seed)
    config = Dinov2Config(
        image_size=28,
        patch_size=7,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_ratio=1,
        initializer_range=0.5,
    )
    Dinov2Model(config).save_pretrained(folder)
    prepared = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 28, "width": 28},
        "do_rescale": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder
