"""Names for artefacts: a short hash of everything that made them.

Only values with one canonical JSON form take part; anything else raises, because a fingerprint that guesses (by `repr`, by
address, by pickling) would call different things equal or equal things different.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath

from pydantic import BaseModel

FINGERPRINT_CHARS = 16


def canonical(value: object) -> object:
    """`value` as plain JSON types. Raises TypeError for a value that has no stable form."""
    if isinstance(value, Enum):
        return canonical(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"fingerprint: {value} is not a finite number")
        return value
    if isinstance(value, BaseModel):
        return canonical(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: canonical(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"fingerprint: mapping keys must be text, found {sorted(map(str, value))}")
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(canonical(item) for item in value)  # type: ignore[type-var]
    if isinstance(value, PurePath):
        raise TypeError(f"fingerprint: path {value} depends on the machine; use what the file holds")
    raise TypeError(f"fingerprint: {type(value).__name__} has no canonical form; pass its settings instead")


def fingerprint(value: object) -> str:
    """First 16 hex digits of the SHA-256 of `value`'s canonical JSON; independent of key order."""
    text = json.dumps(canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_CHARS]
