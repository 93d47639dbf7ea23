"""Towers, connector and a transformers language model put together, with SVA samplers between decoder layers.

The samplers inside the language model are forward hooks on decoder layers of a stock model: after layer start + j * stride,
sampler j updates the image cells, wherever they stand in the sequence, and nothing else. They run in training and in scoring
alike; the published GPU path leaves them out by mistake (reference notes, trap 1), so its losses differ.

Shapes: B samples, T places, H width of the language model, V image tokens of the batch, N image cells, Y vocabulary.
"""
# ruff: noqa: N803, N806, N815 - names carry the shape suffixes above

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from training.errors import ConfigError
from training.layout import IGNORE_ID, Layout
from training.model.connector import Connector, ImageSize, ImageTokens, SamplerInputs
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
    """Logits [B, T, Y] in float32; `loss` is the mean over trained tokens, 0 where there are none; `token_losses` [B, T-1] are
    0 where nothing is trained and `num_targets` [B] counts trained tokens a sample."""

    logits: Tensor
    loss: Tensor
    token_losses: Tensor
    num_targets: Tensor


@dataclass(slots=True)
class _Injection:
    """What the hooks need during one forward pass: flat places of the image cells, and what they attend to."""

    places_N: Tensor
    inputs: SamplerInputs


class Cambrian(nn.Module):
    """The whole model. Towers are outside of its parameters: not trained, not saved, not moved by `to`."""

    def __init__(
        self, towers: Sequence[Tower], connector: Connector, language: PreTrainedModel, places: SamplerPlaces | None = None
    ) -> None:
        super().__init__()
        self.connector = connector
        self.language = language
        self._towers = tuple(towers)
        self._injection: _Injection | None = None
        places = places or SamplerPlaces()
        layers = self._decoder().layers
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

    def move_towers(self, device: torch.device) -> None:
        """Put the towers on a device."""
        for tower in self._towers:
            tower.to(device)

    def _decoder(self) -> Any:
        return self.language.get_decoder()  # type: ignore[no-untyped-call]

    def _head(self) -> Any:
        return self.language.get_output_embeddings()  # type: ignore[no-untyped-call]

    def _make_hook(self, sampler: int) -> Any:
        def update_cells(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if self._injection is None:
                return output
            hidden_BTH: Tensor = output[0] if isinstance(output, tuple) else output
            flat = hidden_BTH.flatten(0, 1)
            injection = self._injection
            cells_N1H = flat[injection.places_N].unsqueeze(1)
            inputs = injection.inputs
            run = self.connector.vision_sampler_layers[sampler]
            updated_NH = run(cells_N1H, inputs.context, inputs.features, inputs.masks).squeeze(1)
            hidden_BTH = flat.index_copy(0, injection.places_N, updated_NH.to(flat.dtype)).view_as(hidden_BTH)
            return (hidden_BTH, *output[1:]) if isinstance(output, tuple) else hidden_BTH

        return update_cells

    def encode(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        """Tower features of images, one tensor [I, 3, S, S] a tower."""
        return [tower(x) for tower, x in zip(self._towers, pixels, strict=True)]

    def forward(self, layout: Layout, pixels: Sequence[Tensor], image_sizes: Sequence[ImageSize]) -> Output:
        """Logits and loss of a batch. A batch without images leaves the vision side out; one without targets has loss 0, and so
        has one without samples, whose gradients are zeros: what a rank contributes that has run out of samples.
        """
        if not len(layout.origin_BT):
            return self._score_nothing()
        features = self.encode(pixels) if image_sizes else []
        return self.forward_features(layout, features, image_sizes)

    def forward_features(self, layout: Layout, features: Sequence[Tensor], image_sizes: Sequence[ImageSize]) -> Output:
        """As `forward`, from tower features [I, L_i, F_i]."""
        images = self.connector(features, image_sizes) if image_sizes else None
        embeds_BTH = self._embed(layout, images)
        self._injection = self._find_cells(layout, images)
        try:
            hidden_BTH = self._decoder()(
                inputs_embeds=embeds_BTH,
                attention_mask=layout.attention_BT,
                position_ids=layout.positions_BT,
                use_cache=False,
            ).last_hidden_state
        finally:
            self._injection = None
        logits_BTY = self._head()(hidden_BTH).float()
        return self._score(logits_BTY, layout, with_images=images is not None)

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
        if images is None:
            return None
        num_text = len(layout.text_W)
        cell_of_token = torch.full((layout.num_image_tokens + 1,), -1, device=layout.origin_BT.device)
        cell_of_token[images.cells] = torch.arange(len(images.cells), device=cell_of_token.device)
        token_of_place = (layout.origin_BT.flatten() - num_text).clamp(min=-1)  # -1 reads the extra entry at the end
        cells = cell_of_token[token_of_place]
        places_N = (cells >= 0).nonzero().squeeze(1)
        return _Injection(places_N=places_N, inputs=images.sampler_inputs.rows(cells[places_N]))

    def _score_nothing(self) -> Output:
        zero = torch.stack([p.sum() * 0 for p in self.parameters() if p.requires_grad]).sum().float()
        nothing = zero.detach().new_zeros(0, 0)
        return Output(logits=nothing.unsqueeze(-1), loss=zero, token_losses=nothing, num_targets=nothing.sum(dim=1).long())

    def _score(self, logits_BTY: Tensor, layout: Layout, *, with_images: bool) -> Output:
        targets = layout.labels_BT[:, 1:]
        losses = functional.cross_entropy(
            logits_BTY[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=IGNORE_ID, reduction="none"
        ).view(targets.shape)
        num_targets = (targets != IGNORE_ID).sum(dim=1)
        loss = losses.sum() / num_targets.sum().clamp(min=1)
        if not with_images:  # every rank must hand DDP a gradient for every parameter
            loss = loss + sum((p.sum() * 0 for p in self.connector.parameters() if p.requires_grad), start=loss.new_zeros(()))
        return Output(logits=logits_BTY, loss=loss, token_losses=losses.detach(), num_targets=num_targets)
