"""Embed one source: a vector for the question and one for the answer of each item, by a model, as de-duplication reads them.

They depend on the source, the model's files and what an item is, and on nothing else: another source, mixture or threshold
never computes them again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curation.dedup_spec import DedupSpec
from curation.fingerprint import fingerprint
from curation.item_texts import item_texts
from curation.model_files import model_fingerprint
from curation.runtime.pool import Pool
from curation.steps.step import Artefact, created_now
from curation.store import Store, is_published, publish, read_manifest, replacing

VERSION = 1
ROWS_AT_ONCE = 4_096


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
        made_of = {
            "step": "embed",
            "version": VERSION,
            "prompts": self.prompts,
            "settings": settings,
            "model": model_fingerprint(Path(semantic.model)),
            "ingested": ingested.fingerprint,
        }
        folder = store.embeddings(self.source, fingerprint(made_of))
        if not is_published(folder):
            tasks = [
                EmbedTask(str(path), str(folder / f"vectors-{path.stem.partition('-')[2]}.npy"), self.prompts, settings)
                for path in ingested.files("samples")
            ]
            folder.mkdir(parents=True, exist_ok=True)
            made = pool.map_with(
                partial(Embedder, Path(semantic.model).absolute(), semantic.max_tokens), tasks, label=f"embed {self.source}"
            )
            publish(folder, {
                "source": self.source,
                "fingerprint": folder.name,
                "settings": made_of,
                "counts": {"items": made},
                "created": created_now(),
            })  # fmt: skip
        return Artefact(folder, read_manifest(folder))


class Embedder:
    """Writes vectors of files of samples; the model is loaded once."""

    def __init__(self, model: Path, max_tokens: int) -> None:
        from curation.runtime.encoders import TextEncoder

        self._encoder = TextEncoder(model, max_tokens)

    def __call__(self, task: EmbedTask) -> int:
        """Write the vectors [items, sides, width] of one file; returns the number of items."""
        target = Path(task.target)
        if target.exists():
            return len(np.load(target, mmap_mode="r"))
        samples = pl.read_parquet(task.samples, columns=["conversations", "images"])
        parts = [self._vectors(samples.slice(start, ROWS_AT_ONCE), task) for start in range(0, len(samples), ROWS_AT_ONCE)]
        vectors = np.concatenate(parts) if parts else np.zeros((0, 1, 1), np.float16)
        with replacing(target) as temporary, temporary.open("wb") as handle:
            np.save(handle, vectors)
        return len(vectors)

    def _vectors(self, samples: pl.DataFrame, task: EmbedTask) -> np.ndarray[Any, np.dtype[np.float16]]:
        said = item_texts(samples, task.prompts, by_turn=task.settings["unit"] == "turn")
        texts, roles = said.texts.to_pylist(), said.roles
        sides = []
        for role in (0,) if task.settings["key"] == "question" else (0, 1):
            joined = [
                "\n".join(texts[place] for place in range(first, last) if roles[place] == role)
                for first, last in zip(said.edges[:-1], said.edges[1:], strict=True)
            ]
            sides.append(self._encoder.encode(joined))
        return np.stack(sides, axis=1).astype(np.float16)
