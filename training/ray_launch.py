"""The same run on the workers of Ray Train's TorchTrainer, where settings name `parallel.ray_workers`.

Ray starts the processes, joins them to one group and starts them again when one dies; each then runs the loop that torchrun
would run. Checkpoints are the loop's own, in the run's output folder, which all workers must see; so is the report.
"""

import json
import logging
import os
from dataclasses import asdict
from typing import Any

import ray
from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchConfig, TorchTrainer

from training.build import build_stream, build_tokenizer, check_images
from training.config import RunConfig
from training.errors import TrainingError
from training.loop import RunReport, Trainer

REPORT_NAME = "report.json"
_MAX_RESTARTS = 3


def train_on_ray(config: RunConfig) -> RunReport:
    """Train on `parallel.ray_workers` workers of the cluster at RAY_ADDRESS, or of one started here.

    Raises TrainingError for a tokenizer or a release that cannot be used, before anything is started, and with what the workers
    told where they failed for good.
    """
    build_tokenizer(config)
    check_images(config, build_stream(config))
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not os.environ.get("RAY_ADDRESS"):
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # embedded: bound to loopback
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    report = config.output.absolute() / REPORT_NAME
    report.unlink(missing_ok=True)
    on_gpu = config.device == "cuda"
    trainer = TorchTrainer(
        _work,
        train_loop_config=config.model_copy(update={"output": config.output.absolute()}).model_dump(mode="json"),
        scaling_config=ScalingConfig(num_workers=config.parallel.ray_workers or 1, use_gpu=on_gpu),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=RayRunConfig(
            name="run",
            storage_path=str(config.output.absolute() / "ray"),
            failure_config=FailureConfig(max_failures=_MAX_RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise TrainingError(f"Ray Train gave up: {error}") from error
    fields = json.loads(report.read_text())
    if "error" in fields:
        raise TrainingError(fields["error"])
    return RunReport(**fields)


def _work(settings: dict[str, Any]) -> None:
    """The loop on one worker. What a user can mend is told, not tried again."""
    config = RunConfig.model_validate(settings)
    try:
        found = asdict(Trainer(config).train(lambda report: None))
    except TrainingError as error:
        found = {"error": str(error)}
    if ray.train.get_context().get_world_rank() == 0:
        config.output.mkdir(parents=True, exist_ok=True)
        (config.output / REPORT_NAME).write_text(json.dumps(found))
