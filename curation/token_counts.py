"""Counting the tokens of samples with the tokenizer of a mixture: a local `tokenizer.json`, read by the `tokenizers` library.

Without one, the words between white space that ingest counted stand for tokens.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from curation.errors import MixtureError
from curation.shard_format import IMAGE_MARKER

WORDS = "words between white space; no tokenizer"
"""What a release says of its tokens when its mixture names no tokenizer."""
FILE_NAME = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A tokenizer on this machine; `sha256` is of what the file holds, which is what counts depend on."""

    path: Path
    sha256: str

    @classmethod
    def find(cls, path: Path) -> "TokenizerFile":
        """The file at `path`, or the `tokenizer.json` in a folder. Raises MixtureError for one that cannot be used."""
        file = path / FILE_NAME if path.is_dir() else path
        try:
            content = file.read_bytes()
        except OSError as problem:
            raise MixtureError(
                f"tokenizer '{file}': {problem.strerror}; give a {FILE_NAME} or a folder that holds one"
            ) from None
        found = cls(file, hashlib.sha256(content).hexdigest())
        found.load()
        return found

    @property
    def unit(self) -> str:
        """What a release says of its tokens."""
        return f"those of the {FILE_NAME} with SHA-256 {self.sha256}, without template and image markers"

    def load(self) -> Tokenizer:
        """The tokenizer. Raises MixtureError for a file that is none, or has changed."""
        return _load(self)

    def count(self, samples: Sequence[Sequence[str]]) -> list[int]:
        """Tokens of samples, each given as the texts of its turns; image markers and special tokens do not count."""
        texts = [text.replace(IMAGE_MARKER, "") for sample in samples for text in sample]
        encoded = self.load().encode_batch_fast(texts, add_special_tokens=False)
        before = np.concatenate([[0], np.cumsum([len(one) for one in encoded])])
        ends = np.concatenate([[0], np.cumsum([len(sample) for sample in samples])])
        return [int(before[stop] - before[first]) for first, stop in pairwise(ends.tolist())]


@lru_cache(maxsize=2)
def _load(file: TokenizerFile) -> Tokenizer:
    content = file.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise MixtureError(f"tokenizer '{file.path}' has changed since the build began; build again")
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as problem:  # the library has no narrower type
        raise MixtureError(f"tokenizer '{file.path}' cannot be read: {problem}; expected a {FILE_NAME}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
