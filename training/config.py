"""The settings of a run: one YAML file, read once, refused where a key is unknown or a value is wrong.

Defaults of learning rates and schedule are those of Cambrian-1's two stages.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from training.chat import TEMPLATES
from training.data_config import DataConfig, Positive, Settings
from training.errors import ConfigError
from training.model.geometry import ImageLayout
from training.model.published import TowerKind


class TowerConfig(Settings):
    """One vision encoder: a `backbone` of the registry, or a `kind` with `side_px` and transformers `config` values.

    Its weights are random, or those in the local transformers folder `path`, or those in the safetensors file `weights` with
    open_clip or timm names. Tokens are resampled to grid_side x grid_side (default: the backbone's own grid). `is_trained`
    makes it part of what both stages train.
    """

    backbone: str | None = None
    kind: TowerKind | None = None
    side_px: Positive | None = None
    grid_side: Positive | None = None
    config: dict[str, Any] | None = None
    path: Path | None = None
    weights: Path | None = None
    is_trained: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> "TowerConfig":
        given = [self.kind, self.side_px, self.config]
        if self.backbone is not None and any(value is not None for value in given):
            raise ValueError("give either backbone, or kind, side_px and config, not both")
        if self.backbone is None and (None in (self.kind, self.side_px, self.grid_side) or (self.config or self.path) is None):
            raise ValueError("give backbone, or kind, side_px, grid_side and config (or path)")
        if self.path is not None and self.weights is not None:
            raise ValueError("give either path or weights, not both")
        return self


class LanguageConfig(Settings):
    """The language model: random weights from `config` of a transformers model type, or those in the local folder `path`.

    With both, the folder's configuration must hold the values of `config`: a guard against the wrong folder.
    """

    kind: Literal["llama", "mistral", "phi3", "qwen2", "qwen3"] = "llama"
    config: dict[str, Any] | None = None
    path: Path | None = None

    @model_validator(mode="after")
    def _some_origin(self) -> "LanguageConfig":
        if self.config is None and self.path is None:
            raise ValueError("give config (random weights) or path (a local folder)")
        return self


class SamplersConfig(Settings):
    """SVA samplers inside the language model: after decoder layers start, start + stride, ..."""

    count: Annotated[int, Field(ge=0)] = 10
    start: Annotated[int, Field(ge=0)] = 0
    stride: Positive = 3


class ModelConfig(Settings):
    """Towers, connector and language model. `image_layout` cropped and padded give the same loss; cropped is shorter."""

    towers: Annotated[tuple[TowerConfig, ...], Field(min_length=1)]
    language: LanguageConfig
    connector: Literal["sva", "mlp"] = "sva"
    image_layout: ImageLayout = ImageLayout.CROPPED
    hidden_dim: Positive = 1024
    query_sides: Annotated[tuple[Positive, ...], Field(min_length=1)] = (24,)
    image_side: Positive = 24
    depth: Positive = 3
    samplers: SamplersConfig = SamplersConfig()


class TextConfig(Settings):
    """How conversations become tokens; `tokenizer` is "bytes" or a local folder, `system` replaces the template's text."""

    tokenizer: str = "bytes"
    template: str = "llama_3"
    system: str | None = None
    max_tokens: Positive = 2048

    @model_validator(mode="after")
    def _known_template(self) -> "TextConfig":
        if self.template not in TEMPLATES:
            raise ValueError(f"template '{self.template}' is unknown; valid are {', '.join(TEMPLATES)}")
        return self


class OptimisationConfig(Settings):
    """Optimiser and schedule. `batch_size` is a rank's, `accumulation` the number of batches to an optimiser step.

    Rates left out are the stage's, steps left out one epoch. With `base_batch_size` rates are those of a global batch of that
    size and are scaled by the square root of the run's share of it, as the published recipe does.
    """

    batch_size: Positive = 8
    accumulation: Positive = 1
    num_train_steps: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    sampler_learning_rate: Annotated[float, Field(gt=0)] | None = None
    tower_learning_rate: Annotated[float, Field(gt=0)] | None = None
    base_batch_size: Positive | None = None
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0


class CheckpointConfig(Settings):
    """A checkpoint every `every` train steps and at the end; the last `keep` stay."""

    every: Positive = 500
    keep: Positive = 2


class ParallelConfig(Settings):
    """Several processes: `replicate` holds the model on each (DDP), `shard` splits weights, gradients and optimiser (FSDP2).

    `ray_workers` starts that many on a Ray cluster by Ray Train; else torchrun starts them.
    """

    mode: Literal["replicate", "shard"] = "replicate"
    ray_workers: Positive | None = None


class RunConfig(Settings):
    """A whole run. `release` is a release, a list of them, or {release: weight}; `start_from` weights with published names: a
    safetensors file, a run's export or one of its checkpoints."""

    release: str | tuple[str, ...] | dict[str, float] | None = None
    output: Path
    seed: int = 0
    stage: Literal[1, 2] = 2
    start_from: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    parallel: ParallelConfig = ParallelConfig()
    tensorboard: bool = False
    model: ModelConfig
    text: TextConfig = TextConfig()
    data: DataConfig = DataConfig()
    optimisation: OptimisationConfig = OptimisationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _packs_are_cropped(self) -> "RunConfig":
        if self.data.packing is not None and self.model.image_layout is not ImageLayout.CROPPED:
            raise ValueError("data.packing needs model.image_layout cropped, where no place of a sample is masked")
        return self

    def fingerprint(self) -> str:
        """Hash of the settings that decide what is trained on what: two runs of the same one are the same run.

        How a step's samples are split over processes and batches is not among them, so that a run may go on elsewhere; nor are
        changes and skips of single steps, which may be added on the way: checkpoints know what was done of them.
        """
        how = {"output", "release", "device", "checkpoint", "parallel", "tensorboard", "gradient_checkpointing"}
        deciding = self.model_dump(mode="json", exclude=how)
        for name in ("num_workers", "ratios", "changes", "skip"):
            del deciding["data"][name]
        del deciding["optimisation"]["batch_size"], deciding["optimisation"]["accumulation"]
        content = json.dumps(deciding, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that also refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def load_config(path: Path, *, release: str | None = None, output: Path | None = None) -> RunConfig:
    """Settings of a YAML file; `release` and `output` replace the file's. Raises ConfigError naming file, key and value."""
    try:
        content = yaml.load(path.read_text(), Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except OSError as error:
        raise ConfigError(f"run file '{path}' cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"run file '{path}' is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"run file '{path}' holds a {type(content).__name__}; expected keys {_valid_keys(())}")
    replaced = {key: value for key, value in (("release", release), ("output", output)) if value is not None}
    try:
        config = RunConfig.model_validate(content | replaced)
    except ValidationError as error:
        raise ConfigError(f"run file '{path}': {_explain(error)}") from error
    if config.release is None:
        raise ConfigError(f"run file '{path}' names no release; set `release` or give --release PATH")
    return config


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "the whole"
        if problem["type"] == "extra_forbidden":
            problems.append(f"key '{key}' is unknown; valid here are {_valid_keys(problem['loc'][:-1])}")
        elif problem["type"] == "missing":
            problems.append(f"key '{key}' is missing")
        else:
            shown = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
            problems.append(f"key '{key}': {problem['msg'].removeprefix('Value error, ')}{shown}")
    return "; ".join(problems)


def _valid_keys(place: tuple[int | str, ...]) -> str:
    settings: Any = RunConfig
    for part in place:
        if isinstance(part, str) and part in settings.model_fields:
            annotation = settings.model_fields[part].annotation
            settings = next(
                (kind for kind in (annotation, *getattr(annotation, "__args__", ())) if _is_settings(kind)), settings
            )
    return ", ".join(settings.model_fields)


def _is_settings(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)
