"""Texts and pictures to vectors by transformers models from local folders; the one place where curation loads torch, and only
when called.

Weights come from safetensors, and code beside them is never run. One thread an encoder and batches that depend on what is
encoded alone make the same texts the same vectors on the same machine, however many encoders share the work.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.errors import ConfigurationError

Vectors = npt.NDArray[np.float32]
_AT_ONCE = 32
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class TextEncoder:
    """A text model and its tokenizer, on a GPU where there is one."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Load the model in `folder`. Raises ConfigurationError when transformers cannot, or finds weights missing."""
        import transformers

        self._model, self._device = _loaded(folder)
        self._tokenizer = _told(folder, lambda: transformers.AutoTokenizer.from_pretrained(str(folder), **_LOCAL))
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        positions = getattr(self._model.config, "max_position_embeddings", max_tokens)
        self._max_tokens = min(max_tokens, positions, self._tokenizer.model_max_length)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """[texts, width] vectors of length 1: the mean of the last hidden states, or the model's own text features where it has
        some (CLIP, SigLIP). Texts longer than the model takes are cut; those without a word have the vector 0."""
        worded = [place for place in range(len(texts)) if texts[place].strip()]
        order = sorted(worded, key=lambda place: (len(texts[place]), texts[place]))
        parts = [
            self._encoded([texts[place] for place in order[start : start + _AT_ONCE]])
            for start in range(0, len(order), _AT_ONCE)
        ]
        vectors = np.zeros((len(texts), parts[0].shape[1] if parts else 1), np.float32)
        if parts:
            vectors[order] = np.concatenate(parts)
        return vectors

    def _encoded(self, texts: list[str]) -> Vectors:
        import torch

        given = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        given = {name: value.to(self._device) for name, value in given.items() if name in ("input_ids", "attention_mask")}
        mask = given["attention_mask"]
        with torch.inference_mode():
            if hasattr(self._model, "get_text_features"):
                return _unit(self._model.get_text_features(**given))
            hidden = self._model(**given).last_hidden_state
            return _unit((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


class VisionEncoder:
    """A model of pictures and how it wants them prepared, on a GPU where there is one."""

    def __init__(self, folder: Path) -> None:
        """Load the model in `folder`. Raises ConfigurationError when transformers cannot, or finds weights missing."""
        import transformers

        self._model, self._device = _loaded(folder)
        self._processor = _told(
            folder,
            lambda: transformers.AutoImageProcessor.from_pretrained(str(folder), **_LOCAL),  # type: ignore[no-untyped-call]
        )

    def encode(self, pictures: Sequence[Image.Image]) -> Vectors:
        """[pictures, width] vectors of length 1 of RGB pictures: the model's own image features (CLIP, SigLIP), else its pooled
        output, else the mean of its last hidden states."""
        parts = [self._encoded(pictures[start : start + _AT_ONCE]) for start in range(0, len(pictures), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def _encoded(self, pictures: Sequence[Image.Image]) -> Vectors:
        import torch

        given = self._processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self._device)
        with torch.inference_mode():
            if hasattr(self._model, "get_image_features"):
                return _unit(self._model.get_image_features(pixel_values=given))
            found = self._model(pixel_values=given)
            pooled = getattr(found, "pooler_output", None)
            return _unit(found.last_hidden_state.flatten(2).mean(-1) if pooled is None else pooled.flatten(1))


def _loaded(folder: Path) -> tuple[Any, str]:
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options = _LOCAL | {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    model, facts = _told(folder, lambda: transformers.AutoModel.from_pretrained(str(folder), **options))
    # A text model's pooler is not used; other weights that are missing would be random numbers.
    if missing := sorted(name for name in facts["missing_keys"] if not name.startswith("pooler.")):
        raise ConfigurationError(
            f"model '{folder}': {len(missing)} of its weights are in no *.safetensors, such as {missing[0]}; fetch it whole"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device), device


def _told(folder: Path, load: Callable[[], Any]) -> Any:
    """What `load` gives. Raises ConfigurationError for whatever it cannot read."""
    try:
        return load()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
        told = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise ConfigurationError(f"model '{folder}': transformers cannot load it: {told}") from None


def _unit(features: Any) -> Vectors:
    """[n, width] rows scaled to length 1; rows that are no numbers become 0."""
    import torch

    pooled = features if torch.is_tensor(features) else features.pooler_output
    vectors = torch.nn.functional.normalize(pooled.float(), dim=1)
    vectors[~torch.isfinite(vectors).all(1)] = 0
    found: Vectors = vectors.cpu().numpy()
    return found
