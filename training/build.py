"""A run's parts from its settings: model, stream, loader, optimiser. The one place where expensive things are made."""

from collections.abc import Iterable
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from training.chat import get_template
from training.collate import Batch, Collator
from training.config import LanguageConfig, ModelConfig, RunConfig
from training.errors import ConfigError
from training.model.cambrian import Cambrian, SamplerPlaces
from training.model.connector import Connector, ConnectorShape
from training.model.names import has_sampler_rate, is_adapter, named_parameters
from training.model.towers import Tower, build_tower
from training.reader import SampleStream
from training.stream import MixtureStream, ShardStream
from training.tokenizers import load_tokenizer

_RATES = {1: 1e-3, 2: 4e-5}
_SAMPLER_RATE = 1e-4
WARMUP_RATIOS = {1: 0.06, 2: 0.03}


def build_model(config: RunConfig, *, vocab_size: int) -> Cambrian:
    """The model with random weights drawn from the run's seed, or with the files its settings name."""
    settings = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        towers = [_build_tower(settings, number) for number in range(len(settings.towers))]
        language = _build_language(settings.language, vocab_size)
        shape = ConnectorShape(
            tower_widths=tuple(tower.width for tower in towers),
            tower_sides=tuple(tower.grid_side for tower in towers),
            language_dim=language.config.hidden_size,
            hidden_dim=settings.hidden_dim,
            query_sides=settings.query_sides,
            image_side=settings.image_side,
            depth=settings.depth,
            num_samplers=settings.samplers.count,
        )
        places = SamplerPlaces(start=settings.samplers.start, stride=settings.samplers.stride)
        return Cambrian(towers, Connector(shape), language, places)


def _build_tower(settings: ModelConfig, number: int) -> Tower:
    tower = settings.towers[number]
    return build_tower(tower.kind, side_px=tower.side_px, grid_side=tower.grid_side, config=tower.config, path=tower.path)


def _build_language(settings: LanguageConfig, vocab_size: int) -> PreTrainedModel:
    try:
        if settings.path is not None:
            shape = AutoConfig.from_pretrained(settings.path, local_files_only=True, trust_remote_code=False)
        else:
            values = {"vocab_size": vocab_size, "pad_token_id": None, **(settings.config or {})}
            shape = AutoConfig.for_model(settings.kind, **values)
        _check_vocabulary(shape.vocab_size, vocab_size)
        if settings.path is None:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(shape)  # type: ignore[no-untyped-call]
            return model
        return AutoModelForCausalLM.from_pretrained(
            settings.path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise ConfigError(f"key 'model.language': transformers refuses it: {error}") from error


def _check_vocabulary(found: int, needed: int) -> None:
    if found < needed:
        raise ConfigError(
            f"the tokenizer has {needed} tokens, the language model {found}; "
            "set model.language.config.vocab_size or use its own tokenizer"
        )


def build_stream(config: RunConfig) -> SampleStream:
    """The stream of the run's release, releases or weighted releases."""
    data = config.data
    if isinstance(config.release, dict):
        return MixtureStream(
            config.release,
            seed=config.seed,
            num_samples=data.num_samples,
            shuffle=data.shuffle,
            window=data.window,
            on_error=data.on_error,
            max_image_pixels=data.max_image_pixels,
            batch_size=config.optimisation.batch_size,
        )
    if data.num_samples is not None:
        raise ConfigError("key 'data.num_samples' is for weighted releases; give `release` as {path: weight} or leave it out")
    assert config.release is not None
    return ShardStream(
        config.release,
        seed=config.seed,
        shuffle=data.shuffle,
        window=data.window,
        on_error=data.on_error,
        max_image_pixels=data.max_image_pixels,
        batch_size=config.optimisation.batch_size,
    )


def build_tokenizer(config: RunConfig) -> PreTrainedTokenizerBase:
    """The run's tokenizer."""
    name = config.text.tokenizer
    return load_tokenizer(None if name == "bytes" else Path(name))


def build_collator(config: RunConfig, tokenizer: PreTrainedTokenizerBase, towers: Iterable[Tower]) -> Collator:
    """The collate function for a model's towers."""
    return Collator(
        tokenizer=tokenizer,
        template=get_template(config.text.template, system=config.text.system),
        specs=tuple(tower.spec for tower in towers),
        image_side=config.model.image_side,
        max_tokens=config.text.max_tokens,
    )


def build_loader(config: RunConfig, stream: SampleStream, collator: Collator) -> "DataLoader[Batch]":
    """Batches of the stream; the same ones for any number of workers."""
    return DataLoader(
        stream,  # type: ignore[arg-type]
        batch_size=config.optimisation.batch_size,
        num_workers=config.data.num_workers,
        collate_fn=collator,
        persistent_workers=config.data.num_workers > 0,
        generator=torch.Generator(),  # its own, so that beginning an iteration leaves the run's random state alone
    )


def build_optimiser(config: RunConfig, model: Cambrian) -> torch.optim.AdamW:
    """AdamW over what the stage trains; the rest is frozen. Stage 1 has a rate of its own for samplers and queries."""
    rates: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in named_parameters(model):
        trained = config.stage == 2 or is_adapter(name)
        parameter.requires_grad_(trained)
        if trained:
            rates.setdefault(_rate(config, name), []).append(parameter)
    groups = [{"params": parameters, "lr": rate} for rate, parameters in sorted(rates.items())]
    return torch.optim.AdamW(groups, weight_decay=config.optimisation.weight_decay)


def _rate(config: RunConfig, name: str) -> float:
    chosen = config.optimisation
    base = chosen.learning_rate or _RATES[config.stage]
    if not has_sampler_rate(name):
        return base
    return chosen.sampler_learning_rate or (_SAMPLER_RATE if config.stage == 1 else base)
