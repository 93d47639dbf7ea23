"""Training as a flow: the run file goes to `python -m training` in a process of its own, which ends with the flow."""

import subprocess
import sys
from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger

from curation.errors import ConfigurationError, CurationError


class TrainingFailedError(CurationError):
    """The training process ended with another status than 0."""


@flow(name="train", flow_run_name="train {run}", validate_parameters=False)
def train(run: str) -> None:
    """Train from a run file; a run that was interrupted resumes from its last checkpoint.

    Args:
        run: Path of the run file, such as training/recipes/demo.yaml.

    Raises:
        ConfigurationError: there is no such run file.
        TrainingFailedError: the training process failed; its last lines are in the message.
    """
    if not Path(run).is_file():
        raise ConfigurationError(f"no run file {run}; give the path of one, such as training/recipes/demo.yaml")
    logger = get_run_logger()
    last: list[str] = []
    command = [sys.executable, "-m", "training", run]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                logger.info(line.rstrip())
                last = [*last[-9:], line]
        except BaseException:  # the flow is cancelled or timed out: so is its process
            process.terminate()
            raise
    if process.returncode:
        raise TrainingFailedError(f"training of {run} ended with status {process.returncode}:\n{''.join(last)}")
