"""Embed one source: vectors for the question, the answer and maybe the picture of each item, as de-duplication reads them.

They depend on the source, the models' files and what an item is, and on nothing else: another source, mixture or threshold
never computes them again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from curation.dedup.meaning import Halves, side_by_side
from curation.fingerprint import fingerprint
from curation.imaging import upright_rgb
from curation.mixture.dedup import DedupSpec
from curation.model_files import model_fingerprint
from curation.near.item_texts import item_texts
from curation.runtime.pool import Pool
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, bring_tars, is_published, publish, read_manifest, replacing

VERSION = 1
ROWS_AT_ONCE = 4_096
PICTURES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class EmbedTask:
    """One file of samples, whose items' vectors go to `target`."""

    samples: str
    target: str
    prompts: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Embed:
    """The vectors of one ingested source under a spec that has `semantic`; `prompts` count for nothing, as in signing."""

    source: str
    prompts: tuple[str, ...]
    spec: DedupSpec

    def run(self, ingested: Artefact, store: Store, pool: Pool) -> Artefact:
        """The published vectors, made now unless they are there already.

        Raises ConfigurationError when the model cannot be loaded.
        """
        semantic = self.spec.semantic
        assert semantic is not None
        settings = {"unit": self.spec.unit, "key": self.spec.key, "max_tokens": semantic.max_tokens}
        text, vision = (None if named is None else Path(named).absolute() for named in (semantic.model, semantic.vision_model))
        made_of = {
            "step": "embed",
            "version": VERSION,
            "prompts": self.prompts,
            "settings": settings,
            "models": [None if model is None else model_fingerprint(model) for model in (text, vision)],
            "ingested": ingested.fingerprint,
        }
        folder = store.embeddings(self.source, fingerprint(made_of))
        if not is_published(folder):
            tasks = [
                EmbedTask(str(path), str(folder / f"vectors-{path.stem.partition('-')[2]}.npy"), self.prompts, settings)
                for path in ingested.files("samples")
            ]
            folder.mkdir(parents=True, exist_ok=True)
            if tasks and vision is not None:
                bring_tars(ingested.folder)
            make = partial(Embedder, text, vision, semantic.max_tokens)
            made = pool.map_with(make, tasks, label=f"embed {self.source}")
            publish(folder, {
                "source": self.source,
                "fingerprint": folder.name,
                "settings": made_of,
                "counts": {"items": made},
                "created": created_now(),
            })  # fmt: skip
        return Artefact(folder, read_manifest(folder))


class Embedder:
    """Writes vectors of files of samples; models are loaded once.

    Sides are the question, the answer (where answers count) and, with a vision model, the picture of samples that have just one
    whose pixels are there; narrower sides are filled up with zeros.
    """

    def __init__(self, model: Path | None, vision_model: Path | None, max_tokens: int) -> None:
        from curation.runtime.encoders import TextEncoder, VisionEncoder

        self._text = None if model is None else TextEncoder(model, max_tokens)
        self._vision = None if vision_model is None else VisionEncoder(vision_model)

    def __call__(self, task: EmbedTask) -> int:
        """Write the vectors [items, sides, width] of one file; returns the number of items."""
        target = Path(task.target)
        if target.exists():
            return len(np.load(target, mmap_mode="r"))
        samples = pl.read_parquet(task.samples, columns=["conversations", "images"])
        parts = [self._vectors(samples.slice(start, ROWS_AT_ONCE), task) for start in range(0, len(samples), ROWS_AT_ONCE)]
        with replacing(target) as temporary, temporary.open("wb") as handle:
            np.save(handle, side_by_side(parts) if parts else np.zeros((0, 1, 1), np.float16))
        return sum(map(len, parts))

    def _vectors(self, samples: pl.DataFrame, task: EmbedTask) -> Halves:
        said = item_texts(samples, task.prompts, by_turn=task.settings["unit"] == "turn")
        texts, roles, nothing = said.texts.to_pylist(), said.roles, np.zeros((len(said.rows), 1), np.float32)
        sides = []
        for role in (0,) if task.settings["key"] == "question" and self._vision is None else (0, 1):
            joined = [
                "\n".join(texts[place] for place in range(first, last) if roles[place] == role)
                for first, last in zip(said.edges[:-1], said.edges[1:], strict=True)
            ]
            counts = self._text is not None and (role == 0 or task.settings["key"] != "question")
            sides.append(self._text.encode(joined) if self._text is not None and counts else nothing)
        if self._vision is not None:
            sides.append(self._pictures(samples["images"], Path(task.samples).parent)[said.rows])
        return side_by_side([side[:, None].astype(np.float16) for side in sides], axis=1)

    def _pictures(self, images: pl.Series, folder: Path) -> npt.NDArray[np.float32]:
        assert self._vision is not None
        shown = images.to_frame("images").select(
            alone=(pl.col("images").list.len() == 1), image=pl.col("images").list.get(0, null_on_oob=True)
        )
        shown = shown.with_row_index("row").filter("alone").unnest("image").filter(pl.col("tar").is_not_null())
        distinct = shown.unique("pixels").sort("pixels")
        found = [np.zeros((0, 1), np.float32)]
        for start in range(0, len(distinct), PICTURES_AT_ONCE):
            rows = distinct.slice(start, PICTURES_AT_ONCE).select("tar", "offset", "num_bytes")
            found.append(self._vision.encode([_picture(folder, *row) for row in rows.iter_rows()]))
        vectors = side_by_side(found)
        placed = np.zeros((len(images), vectors.shape[1]), np.float32)
        placed[shown["row"].to_numpy()] = vectors[distinct["pixels"].search_sorted(shown["pixels"]).to_numpy()]
        return placed


def _picture(folder: Path, tar: int, offset: int, num_bytes: int) -> Image.Image:
    with (folder / f"images-{tar:05d}.tar").open("rb") as handle:
        handle.seek(offset)
        return upright_rgb(handle.read(num_bytes))
