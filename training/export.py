"""A trained model as a folder that other tools read: safetensors with published names, and the language model's configuration.

`AutoModelForCausalLM.from_pretrained` takes the language model out of it; `load_cambrian` and `start_from` take all. After
stage 1 it holds the vision side alone. Command: `python -m training.export CHECKPOINT FOLDER`.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from training import distributed
from training.build import build_model, build_tokenizer
from training.checkpoint import RUN_NAME, load_weights
from training.config import RunConfig
from training.errors import CheckpointError, TrainingError
from training.model.cambrian import Cambrian
from training.model.names import is_adapter, is_tower, published_name

_MAX_SHARD = "5GB"
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def export_model(folder: Path, model: Cambrian, config: RunConfig) -> None:
    """Publish a model, replacing an earlier export. All processes call it together; one of them writes."""
    weights: dict[str, Any] = dict(get_model_state_dict(model, options=_WHOLE))
    if distributed.is_main():
        named = {published_name(name): _own(value) for name, value in weights.items()}
        if config.stage == 1:
            named = {name: value for name, value in named.items() if is_adapter(name) or is_tower(name)}
        temporary = folder.with_name(f".{folder.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_torch_state_dict(named, temporary, max_shard_size=_MAX_SHARD)
        (temporary / RUN_NAME).write_text(config.model_dump_json(indent=1))
        about = model.language.config.to_dict() | {"cambrian": config.model.model_dump(mode="json")}
        (temporary / "config.json").write_text(json.dumps(about, indent=1, sort_keys=True))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    distributed.wait_for_all()


def _own(value: Tensor) -> Tensor:
    """A tensor that fills its storage: what was gathered from several processes has room left behind it."""
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def load_run(folder: Path) -> tuple[RunConfig, Cambrian]:
    """The settings and the model of a checkpoint or an export. What its run left frozen comes from where it came then.

    Raises CheckpointError for a folder that is neither.
    """
    try:
        config = RunConfig.model_validate_json((folder / RUN_NAME).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{folder}' is no checkpoint and no export: {RUN_NAME} cannot be read: {error}") from error
    model = build_model(config, vocab_size=len(build_tokenizer(config)))
    if config.start_from is not None and config.stage == 1:
        load_weights(model, config.start_from)
    load_weights(model, folder)
    return config, model.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Write a checkpoint as safetensors.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        with torch.device("cpu"):
            config, model = load_run(given.checkpoint)
        export_model(given.folder, model, config)
    except TrainingError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
