"""A tokenizer that needs no file and no training data: one token a byte, plus the special tokens of all templates.

For the demo and for tests. Real runs load the language model's own tokenizer from a local folder.
"""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from training.errors import ConfigError

SPECIAL_TOKENS = (
    "<pad>", "<s>", "</s>",
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|im_start|>", "<|im_end|>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
)  # fmt: skip


def build_byte_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer of 256 bytes and SPECIAL_TOKENS; it adds no start token of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def load_tokenizer(path: Path | None) -> PreTrainedTokenizerBase:
    """The tokenizer in a local folder, or the byte tokenizer for None. Nothing is downloaded, no code of it is run."""
    if path is None:
        return build_byte_tokenizer()
    if not path.is_dir():
        raise ConfigError(f"tokenizer: no folder '{path}'; expected one with tokenizer.json, or 'bytes'")
    try:
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"tokenizer: '{path}' cannot be loaded: {error}") from error
    return loaded
