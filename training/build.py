"""A run's parts from its settings: model, stream, loader, optimiser. The one place where expensive things are made."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from curation.shard_format import INDEX_NAME
from training import distributed
from training.chat import get_template
from training.collate import Batch, Collator
from training.config import LanguageConfig, ModelConfig, RunConfig, TowerConfig
from training.errors import ConfigError
from training.index import Release
from training.model.cambrian import Cambrian, SamplerPlaces
from training.model.connector import Connector, ConnectorShape
from training.model.mlp import MlpConnector
from training.model.names import has_sampler_rate, is_adapter, is_tower, named_parameters
from training.model.towers import Tower, backbone_row, build_tower, plain_row
from training.packing import PackedStream
from training.reader import SampleStream
from training.stream import MixtureStream, ShardStream
from training.tokenizers import load_tokenizer

_RATES = {1: 1e-3, 2: 4e-5}
_SAMPLER_RATE = 1e-4
WARMUP_RATIOS = {1: 0.06, 2: 0.03}


def build_model(config: RunConfig, *, vocab_size: int) -> Cambrian:
    """The model with random weights drawn from the run's seed, or with the files its settings name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        towers = [_build_tower(tower) for tower in config.model.towers]
        return _assemble(config.model, towers, _build_language(config.model.language, vocab_size))


def outline_model(config: RunConfig) -> Cambrian:
    """The model's modules and shapes on the meta device, without weights and without any of the files that settings name.

    Raises ConfigError where the language model's `config` does not tell its sizes.
    """
    language = config.model.language
    if language.config is None:
        raise ConfigError("key 'model.language.config' is missing; without the folder `path` only it tells the model's sizes")
    without_files = {"path": None, "weights": None}
    with torch.device("meta"):
        towers = [_build_tower(tower.model_copy(update=without_files)) for tower in config.model.towers]
        return _assemble(config.model, towers, _build_language(language.model_copy(update={"path": None}), 0))


def _assemble(settings: ModelConfig, towers: Sequence[Tower], language: PreTrainedModel) -> Cambrian:
    shape = ConnectorShape(
        tower_widths=tuple(tower.width for tower in towers),
        tower_sides=tuple(tower.grid_side for tower in towers),
        language_dim=language.config.hidden_size,
        hidden_dim=settings.hidden_dim,
        query_sides=settings.query_sides,
        image_side=settings.image_side,
        depth=settings.depth,
        num_samplers=settings.samplers.count,
        image_layout=settings.image_layout,
    )
    connector = Connector(shape) if settings.connector == "sva" else MlpConnector(shape)
    places = SamplerPlaces(start=settings.samplers.start, stride=settings.samplers.stride)
    return Cambrian(towers, connector, language, places)


def _build_tower(settings: TowerConfig) -> Tower:
    if settings.backbone is not None:
        row = backbone_row(settings.backbone)
    else:
        assert settings.kind is not None and settings.side_px is not None and settings.grid_side is not None
        row = plain_row(settings.kind, side_px=settings.side_px, grid_side=settings.grid_side, config=settings.config)
    return build_tower(
        row,
        grid_side=settings.grid_side or row.grid_side,
        path=settings.path,
        weights=settings.weights,
        is_trained=settings.is_trained,
    )


def _build_language(settings: LanguageConfig, vocab_size: int) -> PreTrainedModel:
    try:
        if settings.path is not None:
            shape = AutoConfig.from_pretrained(settings.path, local_files_only=True, trust_remote_code=False)
            _check_sizes(settings, shape)
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


def _check_sizes(settings: LanguageConfig, found: PretrainedConfig) -> None:
    for name, expected in (settings.config or {}).items():
        value = getattr(found, name, None)
        if value != expected:
            raise ConfigError(
                f"key 'model.language': the folder '{settings.path}' has {name} {value}, config says {expected}; "
                "give the right folder, or leave config out"
            )


def _check_vocabulary(found: int, needed: int) -> None:
    if found < needed:
        raise ConfigError(
            f"the tokenizer has {needed} tokens, the language model {found}; "
            "set model.language.config.vocab_size or use its own tokenizer"
        )


def build_stream(config: RunConfig) -> SampleStream:
    """The stream of the run's release, releases or weighted releases: of samples, or of packs where settings say so."""
    stream = _sample_stream(config)
    if config.data.packing is None:
        return stream
    side = config.model.image_side
    return PackedStream(
        stream, max_tokens=config.text.max_tokens, window=config.data.packing, tokens_per_image=side * (side + 1)
    )


def _sample_stream(config: RunConfig) -> SampleStream:
    data = config.data
    options = data.stream_options(
        seed=config.seed, batch_size=config.optimisation.batch_size, global_batch=global_batch_size(config)
    )
    if isinstance(config.release, dict):
        if data.group is not None:
            raise ConfigError("key 'data.group' is for releases without weights, whose order it may rearrange; leave it out")
        if data.ratios is not None:
            raise ConfigError(
                "key 'data.ratios' weighs the categories of one release, `release` weighs releases; give one of both"
            )
        schedule = None if data.schedule is None else sorted(data.schedule.items())
        version = "release" if schedule is None else "schedule"
        return MixtureStream(
            config.release, num_samples=data.num_samples, at_end=data.at_end, schedule=schedule, version=version, **options
        )
    if data.ratios is not None:
        if not isinstance(config.release, str) or data.group is not None:
            raise ConfigError(
                "key 'data.ratios' weighs the categories of one release: give `release` as one path, and no `group`"
            )
        return MixtureStream.of_ratios(config.release, data.ratios, num_samples=data.num_samples, at_end=data.at_end, **options)
    if given := data.mixture_keys():
        raise ConfigError(
            f"key 'data.{given[0]}' is for weighted releases; give `release` as {{path: weight}} or data.ratios, or leave it "
            "out"
        )
    assert config.release is not None
    return ShardStream(config.release, **options)


def build_tokenizer(config: RunConfig) -> PreTrainedTokenizerBase:
    """The run's tokenizer. Raises ConfigError where it lacks a marker of the run's template."""
    name = config.text.tokenizer
    tokenizer = load_tokenizer(None if name == "bytes" else Path(name))
    template = get_template(config.text.template, system=config.text.system)
    known = tokenizer.get_vocab()
    missing = [marker for marker in template.markers if marker not in known]
    if missing:
        raise ConfigError(
            f"tokenizer '{name}' does not know {', '.join(missing)} of the template '{config.text.template}'; use the "
            "template of its model, or a tokenizer with these tokens"
        )
    return tokenizer


def build_collator(config: RunConfig, tokenizer: PreTrainedTokenizerBase, towers: Iterable[Tower]) -> Collator:
    """The collate function for a model's towers."""
    return Collator(
        tokenizer=tokenizer,
        template=get_template(config.text.template, system=config.text.system),
        specs=tuple(tower.spec for tower in towers),
        image_side=config.model.image_side,
        image_layout=config.model.image_layout,
        max_tokens=config.text.max_tokens,
        is_packed=config.data.packing is not None,
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


def freeze(config: RunConfig, model: Cambrian) -> None:
    """Leave gradients to what the stage trains: stage 1 the vision side, stage 2 everything; towers where settings say so."""
    for name, parameter in named_parameters(model):
        parameter.requires_grad_(config.stage == 2 or is_adapter(name) or is_tower(name))


def build_optimiser(config: RunConfig, model: Cambrian) -> torch.optim.AdamW:
    """AdamW over what has gradients, in groups of one rate; biases, norms and other vectors do not decay."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    scale = rate_scale(config)
    for name, parameter in named_parameters(model):
        if parameter.requires_grad:
            decay = config.optimisation.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((_rate(config, name) * scale, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in sorted(groups.items())]
    )


def global_batch_size(config: RunConfig) -> int:
    """Samples of one optimiser step, over all ranks."""
    chosen = config.optimisation
    return chosen.batch_size * chosen.accumulation * distributed.world_size()


def rate_scale(config: RunConfig) -> float:
    """lr = base_lr * sqrt(batch / base_batch), where the run names a base batch size."""
    base = config.optimisation.base_batch_size
    return 1.0 if base is None else math.sqrt(global_batch_size(config) / base)


def _rate(config: RunConfig, name: str) -> float:
    chosen = config.optimisation
    base = chosen.learning_rate or _RATES[config.stage]
    if is_tower(name):
        return chosen.tower_learning_rate or base
    if not has_sampler_rate(name):
        return base
    return chosen.sampler_learning_rate or (_SAMPLER_RATE if config.stage == 1 else base)


def check_images(config: RunConfig, stream: SampleStream) -> None:
    """Raise ConfigError where no release of a run has any image and the run does not say that it is text only."""
    if config.data.text_only:
        return
    counts = [_num_images(release) for release in stream.releases]
    if counts and not any(counts):
        names = ", ".join(f"'{release.name}'" for release in stream.releases)
        raise ConfigError(
            f"release {names} holds no image, so that the vision side would learn nothing; give a release with images, or set "
            "data.text_only: true"
        )


def _num_images(release: Release) -> int:
    with pq.ParquetFile(pa.BufferReader(release.files.read(INDEX_NAME))) as parquet:
        if "num_images" not in parquet.schema_arrow.names:
            return 1  # an index that does not count them
        return int(pc.sum(parquet.read(columns=["num_images"])["num_images"]).as_py() or 0)
