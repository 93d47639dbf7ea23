"""A transformers model as a folder of files: whether it is one that may be loaded, and its fingerprint. Loads no library.

Weights must be safetensors, which hold numbers only; code that lies in the folder is never run.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from curation.fingerprint import fingerprint

_NEEDED = (("its settings", "config.json"), ("weights", "*.safetensors"), ("a tokenizer", "tokenizer*.json"))
_READ = ("*.json", "*.safetensors", "*.txt", "*.model")


def model_problem(folder: Path) -> str | None:
    """What is wrong with `folder` as a text model, as the end of a sentence that begins with its name; None when nothing is."""
    if not folder.is_dir():
        return "is no folder; name the folder of a transformers text model, with config.json, a tokenizer and *.safetensors"
    for what, pattern in _NEEDED:
        if not any(folder.glob(pattern)):
            return f"holds no {pattern} ({what}); expected config.json, a tokenizer and weights in *.safetensors"
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
