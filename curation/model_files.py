"""A transformers model as a folder of files: whether it is one that may be loaded, and its fingerprint. Loads no library.

Weights must be safetensors, which hold numbers only; code that lies in the folder is never run.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Literal

from curation.fingerprint import fingerprint

_READERS = {"text": ("a tokenizer", "tokenizer*.json"), "vision": ("how pictures are prepared", "preprocessor_config.json")}
_READ = ("*.json", "*.safetensors", "*.txt", "*.model")


def model_problem(folder: Path, kind: Literal["text", "vision"]) -> str | None:
    """What is wrong with `folder` as a model of that kind, as the end of a sentence that begins with its name, or None."""
    reader = _READERS[kind]
    whole = f"config.json, {reader[1]} and weights in *.safetensors"
    if not folder.is_dir():
        return f"is no folder; name the folder of a transformers {kind} model, with {whole}"
    for what, pattern in (("its settings", "config.json"), ("weights", "*.safetensors"), reader):
        if not any(folder.glob(pattern)):
            return f"holds no {pattern} ({what}); expected {whole}"
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as problem:
        return f"has a config.json that cannot be read ({problem})"
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        return "has a config.json without `model_type`, so transformers cannot tell what model it is"
    return None


def model_fingerprint(folder: Path) -> str:
    """Hash of the names and bytes of all files that a model is loaded from."""
    files = sorted({path for pattern in _READ for path in folder.glob(pattern)})
    hashes = {}
    for path in files:
        stat = path.stat()
        hashes[path.name] = _hash(path, stat.st_size, stat.st_mtime_ns)
    return fingerprint({"model": hashes})


@cache
def _hash(path: Path, num_bytes: int, modified: int) -> str:
    """SHA-256 of a file, computed once for as long as its size and time stay."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
