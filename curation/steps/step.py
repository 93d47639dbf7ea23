"""What every step is: settings in, an artefact out, and a report of what it counted."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("cambrian-curation", "numpy", "orjson", "pillow", "polars", "pyarrow")


@dataclass(frozen=True, slots=True)
class Artefact:
    """A published folder and its manifest."""

    folder: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Hash of what made it, also the folder's name."""
        return self.folder.name

    def files(self, prefix: str) -> list[Path]:
        """Its Parquet files called `<prefix>-*`, in order."""
        return sorted(self.folder.glob(f"{prefix}-*.parquet"))


@cache
def versions() -> dict[str, str]:
    """Versions of what took part, for manifests."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def created_now() -> str:
    """The one field of a manifest that differs between equal runs."""
    return datetime.now(UTC).isoformat(timespec="seconds")
