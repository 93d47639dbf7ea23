"""Texts to vectors by a transformers model from a local folder; the one place where curation loads torch, and only when called.

Weights come from safetensors, and code beside them is never run. One thread an encoder and batches that depend on the texts
alone make the same texts the same vectors on the same machine, however many encoders share the work.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import ConfigurationError

Vectors = npt.NDArray[np.float32]
_TEXTS_AT_ONCE = 32


class TextEncoder:
    """A text model and its tokenizer, on a GPU where there is one."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Load the model in `folder`. Raises ConfigurationError when transformers cannot, or finds weights missing."""
        import torch
        import transformers

        torch.set_num_threads(1)
        transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
            options |= {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
            model, loaded = transformers.AutoModel.from_pretrained(str(folder), **options)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
            told = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise ConfigurationError(f"model '{folder}': transformers cannot load it: {told}") from None
        # A pooler is not used; other weights that are missing would be random numbers.
        if missing := sorted(name for name in loaded["missing_keys"] if not name.startswith("pooler.")):
            raise ConfigurationError(
                f"model '{folder}': {len(missing)} of its weights are in no *.safetensors, such as {missing[0]}; fetch it whole"
            )
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        positions = getattr(self._model.config, "max_position_embeddings", max_tokens)
        self._max_tokens = min(max_tokens, positions, self._tokenizer.model_max_length)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """[texts, width] vectors of length 1: the mean of the last hidden states, or the model's own text features where it has
        some (CLIP, SigLIP). Texts longer than the model takes are cut; those without a token have the vector 0."""
        order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), texts[place]))
        parts = [np.zeros((0, 0), np.float32)]
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            parts.append(self._encoded([texts[place] for place in order[start : start + _TEXTS_AT_ONCE]]))
        if len(parts) == 1:
            return np.zeros((0, 1), np.float32)
        vectors = np.empty((len(texts), parts[1].shape[1]), np.float32)
        vectors[order] = np.concatenate(parts[1:])
        return vectors

    def _encoded(self, texts: list[str]) -> Vectors:
        import torch

        given = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        given = {name: value.to(self._device) for name, value in given.items() if name in ("input_ids", "attention_mask")}
        mask = given["attention_mask"]
        if not given["input_ids"].shape[1]:
            return np.zeros((len(texts), self._width), np.float32)
        with torch.inference_mode():
            if hasattr(self._model, "get_text_features"):
                features = self._model.get_text_features(**given)
                pooled = features if torch.is_tensor(features) else features.pooler_output
            else:
                hidden = self._model(**given).last_hidden_state
                pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            vectors = torch.nn.functional.normalize(pooled.float(), dim=1)
            is_empty = torch.tensor([not text.strip() for text in texts], device=self._device)
            vectors[is_empty | ~torch.isfinite(vectors).all(1)] = 0
        found: Vectors = vectors.cpu().numpy()
        return found

    @property
    def _width(self) -> int:
        config = self._model.config
        return int(getattr(config, "projection_dim", None) or config.hidden_size)
