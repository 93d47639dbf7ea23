"""`python -m training RUN.yaml`: train, with progress on stderr and one JSON line at the end of stdout.

Exit status 0: done; 1: the run failed or its data do not hold; 2: wrong usage or settings.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from training import distributed
from training.config import RunConfig, load_config
from training.errors import TrainingError
from training.loop import RunReport, Trainer
from training.metrics import StepReport


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = _parse(arguments)
    console = Console(stderr=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        report = _run(given, console)
    except TrainingError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the last checkpoint", markup=False)
        return 1
    if report is not None:
        sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train Cambrian-1 on a release.")
    parser.add_argument("run", type=Path, metavar="RUN.yaml", help="settings of the run, see docs/training.md")
    parser.add_argument("--release", help="path or URL of the release, instead of the one in RUN.yaml")
    parser.add_argument("--output", type=Path, help="folder for checkpoints and metrics, instead of the one in RUN.yaml")
    return parser.parse_args(arguments)


def _run(given: argparse.Namespace, console: Console) -> RunReport | None:
    """Train; the report on the main process, None on others."""
    config = load_config(given.run, release=given.release, output=given.output)
    if config.parallel.ray_workers is not None:
        from training.ray_launch import train_on_ray  # Ray takes a second to import, and few runs need it

        return train_on_ray(config)
    with distributed.process_group(config.device):
        return _train(config, console)


def _train(config: RunConfig, console: Console) -> RunReport | None:
    """A function of its own, so that the model is gone before the process group is."""
    trainer = Trainer(config)
    with _progress(console, trainer.total_steps) as watch:
        report = trainer.train(watch)
    return report if distributed.is_main() else None


@contextmanager
def _progress(console: Console, total_steps: int) -> Iterator[Callable[[StepReport], None]]:
    columns = [TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"), TimeElapsedColumn()]
    with Progress(*columns, console=console, disable=not distributed.is_main()) as progress:
        task = progress.add_task("train", total=total_steps, loss="")

        def watch(report: StepReport) -> None:
            loss = f"loss {report.loss:.3f}"
            progress.update(task, completed=report.step, loss=loss)
            if not console.is_terminal and (report.step == 1 or report.step % 10 == 0):
                console.print(f"train_step {report.step}/{total_steps} {loss} lr {report.learning_rate:.2e}", highlight=False)

        yield watch


if __name__ == "__main__":
    sys.exit(main())
