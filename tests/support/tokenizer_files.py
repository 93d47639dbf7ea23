"""A tokenizer.json that counts otherwise than by white space: every letter, digit and sign is a token."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers


def write_letter_tokenizer(folder: Path) -> Path:
    """Write one into a folder and return its path."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), behavior="isolated")]
    )
    tokenizer.enable_truncation(3)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
