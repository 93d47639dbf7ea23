"""Published Cambrian-1 parameter names, and what is trained under which learning rate in each stage.

The connector's parameters carry their published names already, so mapping is a matter of the prefix `model.`; the language
model's names are the plain Hugging Face ones.
"""

from collections.abc import Iterator

from torch import nn

from training.model.cambrian import Cambrian

PREFIX = "model."
_STAGE_1_TRAINED = ("mm_projector", "pos_emb", "vision_sampler", "vision_query", "image_newline")
_SAMPLER_RATE = ("vision_sampler", "vision_query")


def named_parameters(model: Cambrian) -> Iterator[tuple[str, nn.Parameter]]:
    """All parameters under their published names; tied ones once. Trained towers, which have none, are `vision_towers.0....`"""
    for name, parameter in model.named_parameters():
        yield published_name(name), parameter


def published_name(name: str) -> str:
    """The published name of a parameter of a Cambrian."""
    if name.startswith("connector."):
        return PREFIX + name.removeprefix("connector.")
    return name.removeprefix("language.")


def is_tower(name: str) -> bool:
    """Whether a published name is a trained tower's."""
    return name.startswith("vision_towers.")


def is_adapter(name: str) -> bool:
    """Whether a published name, with or without `model.`, belongs to the vision side."""
    return not is_tower(name) and any(part in name for part in _STAGE_1_TRAINED)


def has_sampler_rate(name: str) -> bool:
    """Whether a parameter takes the samplers' learning rate in stage 1."""
    return not is_tower(name) and any(part in name for part in _SAMPLER_RATE)
