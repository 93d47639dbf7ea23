"""Towers, connector and a transformers language model put together, with SVA samplers between decoder layers.

The samplers inside the language model are forward hooks on decoder layers of a stock causal model: after layer
start + j * stride, sampler j updates the image cells, wherever they stand in the sequence, and nothing else. They run in
training, in scoring and in the prefill of generation alike; the published GPU path leaves them out by mistake (a defect of
that code, not of its models), so its losses differ. transformers checkpoints a layer's `forward`, so hooks run once a pass.

Shapes: B rows of S samples, T places, H width of the language model, V image tokens of the batch, N image cells, P trained
places, Y vocabulary.
"""
# ruff: noqa: N803, N806, N815 - names carry the shape suffixes above

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from training.errors import ConfigError
from training.layout import IGNORE_ID, Layout, lay_out
from training.model.connector import Connector, ImageTokens, SamplerInputs
from training.model.geometry import ImageSize
from training.model.mlp import MlpConnector
from training.model.towers import Tower


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerPlaces:
    """After which decoder layers (from 0) the samplers run: start, start + stride, ..."""

    start: int = 0
    stride: int = 3

    def layer(self, sampler: int) -> int:
        """Decoder layer after which a sampler runs."""
        return self.start + sampler * self.stride


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """`loss` is the mean over trained tokens, 0 where there are none. By sample [S]: `sample_losses` sums those of its trained
    tokens, `num_targets` counts them, `num_right` those that were the likeliest of all."""

    loss: Tensor
    sample_losses: Tensor
    num_targets: Tensor
    num_right: Tensor


@dataclass(frozen=True, slots=True)
class _Injection:
    """What the hooks need during one forward pass: the batch's B and T, flat places of the image cells, what they attend to."""

    shape: tuple[int, ...]
    places_N: Tensor
    inputs: SamplerInputs


class Cambrian(nn.Module):
    """The whole model. Frozen towers are outside of its parameters: not trained, not saved, not moved by `to`."""

    def __init__(
        self,
        towers: Sequence[Tower],
        connector: Connector | MlpConnector,
        language: PreTrainedModel,
        places: SamplerPlaces | None = None,
    ) -> None:
        super().__init__()
        self.connector = connector
        self.language = language
        self._towers = tuple(towers)
        if any(tower.is_trained for tower in towers):
            self.vision_towers = nn.ModuleList(towers)
        self._injection: _Injection | None = None
        self._checkpoints = False
        places = places or SamplerPlaces()
        layers = self.decoder_layers
        for sampler in range(connector.shape.num_samplers):
            layer = places.layer(sampler)
            if layer >= len(layers):
                raise ConfigError(
                    f"sampler {sampler} would run after decoder layer {layer}, the language model has {len(layers)}; "
                    "lower samplers.count, start or stride"
                )
            layers[layer].register_forward_hook(self._make_hook(sampler))

    @property
    def towers(self) -> tuple[Tower, ...]:
        """The encoders."""
        return self._towers

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """The language model's layers. Raises ConfigError for a model that shows none."""
        layers = getattr(self._decoder(), "layers", None)
        if not isinstance(layers, nn.ModuleList):
            kind = self.language.config.model_type
            raise ConfigError(
                f"language model '{kind}' has no list of decoder layers; use a decoder such as llama, qwen2 or phi3"
            )
        return layers

    def move_towers(self, device: torch.device, dtype: torch.dtype) -> None:
        """Put the frozen towers on a device in a type; trained ones move with the model."""
        for tower in self._towers:
            if not tower.is_trained:
                tower.to(device, dtype)

    def checkpoint_gradients(self) -> None:
        """Recompute decoder layers and all samplers in the backward pass instead of keeping what they computed."""
        self._checkpoints = True
        self.connector.checkpoints = True
        self.language.activation_checkpointing_enable({"use_reentrant": False})

    def _decoder(self) -> Any:
        return self.language.get_decoder()  # type: ignore[no-untyped-call]

    def _make_hook(self, sampler: int) -> Any:
        def update_cells(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            injection = self._injection
            if injection is None:
                return output
            hidden_BTH: Tensor = output[0] if isinstance(output, tuple) else output
            if hidden_BTH.shape[:2] != injection.shape:
                if hidden_BTH.shape[1] == 1:  # a decoding step: the cells are in the cache, updated
                    return output
                raise ConfigError(
                    f"samplers were prepared for {injection.shape} samples and places and met {tuple(hidden_BTH.shape[:2])}; "
                    "generate with one beam"
                )
            hidden_BTH = self._update(sampler, hidden_BTH, injection)
            return (hidden_BTH, *output[1:]) if isinstance(output, tuple) else hidden_BTH

        return update_cells

    def _update(self, sampler: int, hidden_BTH: Tensor, injection: _Injection) -> Tensor:
        flat, inputs = hidden_BTH.flatten(0, 1), injection.inputs
        cells_N1H = flat[injection.places_N].unsqueeze(1)
        assert isinstance(self.connector, Connector)
        run = self.connector.vision_sampler_layers[sampler]
        arguments = (cells_N1H, inputs.context, inputs.features, inputs.masks, inputs.context_rows)
        if self._checkpoints and self.training:
            updated_N1H = checkpoint(run, *arguments, use_reentrant=False)
        else:
            updated_N1H = run(*arguments)
        return flat.index_copy(0, injection.places_N, updated_N1H.squeeze(1).to(flat.dtype)).view_as(hidden_BTH)

    def encode(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        """Tower features of images, one tensor [I, 3, S, S] a tower."""
        return [tower(x) for tower, x in zip(self._towers, pixels, strict=True)]

    def forward(self, layout: Layout, pixels: Sequence[Tensor], image_sizes: Sequence[ImageSize]) -> Output:
        """Loss of a batch. A batch without images leaves the vision side out; one without targets, or without samples, has loss
        0 and gradients of zero: what a rank contributes that has run out of samples.
        """
        features = self.encode(pixels) if image_sizes else []
        return self.score(layout, features, image_sizes)

    def score(self, layout: Layout, features: Sequence[Tensor], image_sizes: Sequence[ImageSize]) -> Output:
        """As `forward`, from tower features [I, L_i, F_i]."""
        num_samples = layout.num_samples
        if not num_samples:
            layout = _one_place(layout.text_W.device)
        hidden_BTH = self._hidden(layout, features, image_sizes)
        out = self._score(hidden_BTH, layout, with_images=bool(image_sizes))
        if num_samples:
            return out
        return Output(loss=out.loss, **{name: getattr(out, name)[:0] for name in ("sample_losses", "num_targets", "num_right")})

    def logits(self, layout: Layout, features: Sequence[Tensor], image_sizes: Sequence[ImageSize]) -> Tensor:
        """Logits [B, T, Y] in float32, from tower features."""
        return self._logits(self._hidden(layout, features, image_sizes))

    @torch.no_grad()
    def generate(self, layout: Layout, pixels: Sequence[Tensor], image_sizes: Sequence[ImageSize], **settings: Any) -> Tensor:
        """Ids [B, new tokens] that transformers' `generate` gives under `settings`, for prompts of equal length.

        The samplers run in the prefill; decoding steps read the cache. Raises ConfigError for prompts of unequal length.
        """
        if not bool(layout.attention_BT[:, -1].all()):
            raise ConfigError("prompts differ in length; generate for one at a time, or for prompts of one length")
        with self._embedded(layout, self.encode(pixels) if image_sizes else [], image_sizes) as embeds_BTH:
            generate: Any = self.language.generate
            ids: Tensor = generate(inputs_embeds=embeds_BTH, attention_mask=layout.attention_BT.long(), **settings)
        return ids

    def _hidden(self, layout: Layout, features: Sequence[Tensor], image_sizes: Sequence[ImageSize]) -> Tensor:
        """Hidden states [B, T, H]. transformers takes positions that begin anew, where no mask is given, for packed samples and
        lets none attend to another (in sdpa and eager attention, which models are built with); the places behind the last one
        are then samples of their own.
        """
        with self._embedded(layout, features, image_sizes) as embeds_BTH:
            hidden: Tensor = self._decoder()(
                inputs_embeds=embeds_BTH,
                attention_mask=None if layout.is_packed else layout.attention_BT,
                position_ids=layout.positions_BT,
                use_cache=False,
            ).last_hidden_state
            return hidden

    @contextmanager
    def _embedded(self, layout: Layout, features: Sequence[Tensor], image_sizes: Sequence[ImageSize]) -> Iterator[Tensor]:
        """Input embeddings [B, T, H]; while they are in use the samplers know the batch's images, and no longer."""
        images: ImageTokens | None = self.connector(features, image_sizes) if image_sizes else None
        embeds_BTH = self._embed(layout, images)
        self._injection = self._find_cells(layout, images)
        try:
            yield embeds_BTH
        finally:
            self._injection = None

    def _embed(self, layout: Layout, images: ImageTokens | None) -> Tensor:
        text_WH: Tensor = self.language.get_input_embeddings()(layout.text_W)
        table = [text_WH]
        if images is not None:
            table.append(images.tokens.to(text_WH.dtype))
        table.append(text_WH.new_zeros(1, text_WH.shape[-1]))
        return torch.cat(table)[layout.origin_BT]

    @staticmethod
    def _find_cells(layout: Layout, images: ImageTokens | None) -> _Injection | None:
        """Places of the image cells that were not cut off, in the order of the batch, and the rows that belong to them."""
        if images is None or images.sampler_inputs is None:
            return None
        num_text = len(layout.text_W)
        cell_of_token = torch.full((layout.num_image_tokens + 1,), -1, device=layout.origin_BT.device)
        cell_of_token[images.cells] = torch.arange(len(images.cells), device=cell_of_token.device)
        token_of_place = (layout.origin_BT.flatten() - num_text).clamp(min=-1)  # -1 reads the extra entry at the end
        cells = cell_of_token[token_of_place]
        places_N = (cells >= 0).nonzero().squeeze(1)
        inputs = images.sampler_inputs
        if len(places_N) < len(images.cells):  # some were cut off; else they are all here, in their order
            inputs = inputs.rows(cells[places_N])
        return _Injection(tuple(layout.origin_BT.shape), places_N, inputs)

    def _logits(self, hidden: Tensor) -> Tensor:
        head: Any = self.language.get_output_embeddings()  # type: ignore[no-untyped-call]
        logits: Tensor = head(hidden).float()
        return logits

    def _score(self, hidden_BTH: Tensor, layout: Layout, *, with_images: bool) -> Output:
        """Logits are computed at trained places alone: with a vocabulary of 128,000 the others would cost more than a layer."""
        targets = layout.labels_BT[:, 1:]
        is_target = targets != IGNORE_ID
        logits_PY = self._logits(hidden_BTH[:, :-1][is_target])
        losses_P = functional.cross_entropy(logits_PY, targets[is_target], reduction="none")
        loss = losses_P.sum() / is_target.sum().clamp(min=1)
        if not with_images:  # every rank must have a gradient for every parameter
            unused = [*self.connector.parameters(), *(p for tower in self._towers for p in tower.parameters())]
            loss = loss + sum((p.sum() * 0 for p in unused if p.requires_grad), start=loss.new_zeros(()))
        owners_P = layout.samples_BT[:, 1:][is_target]
        is_right_P = logits_PY.argmax(dim=-1) == targets[is_target]

        def by_sample(values_P: Tensor) -> Tensor:
            return values_P.new_zeros(layout.num_samples).index_add(0, owners_P, values_P)

        return Output(
            loss=loss,
            sample_losses=by_sample(losses_P.detach()),
            num_targets=by_sample(torch.ones_like(owners_P)),
            num_right=by_sample(is_right_P.long()),
        )


def move_layout(layout: Layout, device: torch.device) -> Layout:
    """A layout with its tensors on a device."""
    values: dict[str, Any] = {field.name: getattr(layout, field.name) for field in fields(Layout)}
    moved: dict[str, Any] = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in values.items()}
    return Layout(**moved)


def _one_place(device: torch.device) -> Layout:
    """A batch of one untrained token, so that a rank without samples takes part in everything that ranks do together."""
    token = torch.zeros(2, dtype=torch.long)
    return move_layout(lay_out([token], [torch.full_like(token, IGNORE_ID)], [[]]), device)
