"""One sample in full, and its pictures' bytes: read from where ingestion left them, and from nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import CurationError
from curation.imaging import EXTENSIONS
from curation.storage.store import Store, bring_tars

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "bmp": "image/bmp"}
_NAMES = ("samples-", "rejected-")


class NoSuchPictureError(CurationError):
    """A picture number that the sample does not have, or one whose bytes are not there."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one release's sources; `fingerprints` says which ingestion of each source it is made of."""

    store: Store
    fingerprints: Mapping[str, str]

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The whole row of a sample (schema SAMPLES) or rejected record (REJECTED, without turns and pictures)."""
        path = self._folder(row["source"]) / row["file"]
        assert path.name == row["file"] and path.name.startswith(_NAMES)
        found: dict[str, Any] = pl.scan_parquet(path).slice(row["place"], 1).collect().to_dicts()[0]
        return {"conversations": [], "images": [], **found}

    def picture(self, row: Mapping[str, Any], number: int) -> tuple[bytes, str]:
        """Bytes as published and media type of picture `number`. Raises NoSuchPictureError."""
        images = self.record(row)["images"] or []
        if not 0 <= number < len(images):
            raise NoSuchPictureError(f"sample {row['id']} has {len(images)} pictures, so no number {number}")
        image = images[number]
        folder = self._folder(row["source"])
        path = folder / f"images-{int(image['tar']):05d}.tar"
        if not path.exists():
            bring_tars(folder)
        with path.open("rb") as handle:
            handle.seek(int(image["offset"]))
            data = handle.read(int(image["num_bytes"]))
        assert image["extension"] in EXTENSIONS.values()
        return data, MEDIA_TYPES.get(image["extension"], "application/octet-stream")

    def _folder(self, source: str) -> Path:
        return self.store.source(source, self.fingerprints[source])
