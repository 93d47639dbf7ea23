"""The SVA at the 8B model's sizes against the straightforward formulation: forward, forward and backward, memory, bfloat16.

Hidden width 1024, 576 queries, grids of 24, 24, 24 and 96 tokens a side, depth 3, one image. Both run in turn in one process
on the same weights and inputs; figures are medians of images a second. Peak memory is that of a process of its own each, above
what weights and inputs take. Needs no GPU; where there is one (or with --device cuda), all of it runs there with eight images,
both under torch.compile.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.printing import show
from tests.support import straightforward
from training.model.sva import VisionTokenSampler, split_regions

WIDTH, SIDE, GRIDS, DEPTH = 1024, 24, (24, 24, 24, 96), 3
Inputs = tuple[Tensor, Tensor, list[Tensor], list[Tensor]]
Run = Callable[[VisionTokenSampler, Inputs], Tensor]
Step = Callable[[Run, VisionTokenSampler, Inputs], None]


def make(*, num_images: int = 1, width: int = WIDTH) -> tuple[VisionTokenSampler, Inputs]:
    """A sampler and its inputs, random; one key in five is masked. All queries of an image have its one context."""
    torch.manual_seed(0)
    sides = [grid // SIDE for grid in GRIDS]
    sampler = VisionTokenSampler(width, width, [width] * len(GRIDS), sides, width, DEPTH)
    rows = num_images * SIDE * SIDE
    features = [split_regions(torch.randn(num_images, grid * grid, width), SIDE) for grid in GRIDS]
    masks = [torch.rand(x.shape[:2]) < 0.8 for x in features]
    masks[0][:] = True
    return sampler, (torch.randn(rows, 1, width), torch.randn(num_images, 1, width), features, masks)


def ours(sampler: VisionTokenSampler, inputs: Inputs) -> Tensor:
    """The arrangement of the package."""
    queries, context, features, masks = inputs
    rows = torch.arange(len(context), device=context.device).repeat_interleave(SIDE * SIDE)
    out: Tensor = sampler(queries, context, features, masks, rows)
    return out


def theirs(sampler: VisionTokenSampler, inputs: Inputs) -> Tensor:
    """The straightforward formulation."""
    queries, context, features, masks = inputs
    return straightforward.run(sampler, queries, context.repeat_interleave(SIDE * SIDE, dim=0), features, masks)


def forward(run: Run, sampler: VisionTokenSampler, inputs: Inputs) -> None:
    """Without gradients."""
    with torch.no_grad():
        run(sampler, inputs)


def forward_backward(run: Run, sampler: VisionTokenSampler, inputs: Inputs) -> None:
    """With gradients of weights, queries and features, as in training."""
    queries, context, features, masks = inputs
    leaves = [queries.detach().requires_grad_(), *(x.detach().requires_grad_() for x in features)]
    run(sampler, (leaves[0], context, leaves[1:], masks)).float().square().mean().backward()  # type: ignore[no-untyped-call]
    sampler.zero_grad(set_to_none=True)


def compare(what: str, step: Step, *, dtype: torch.dtype, rounds: int, device: str, width: int) -> None:
    """Time both in turn and print the ratio; on a GPU with eight images, compiled, and their peak memory."""
    on_gpu = device == "cuda"
    sampler, (queries, context, features, masks) = make(num_images=8 if on_gpu else 1, width=width)
    sampler = sampler.to(device, dtype)
    moved = [x.to(device, dtype) for x in features]
    inputs = (queries.to(device, dtype), context.to(device, dtype), moved, [mask.to(device) for mask in masks])
    runs = {"ours": ours, "theirs": theirs}
    if on_gpu:
        runs = {name: torch.compile(run) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    peaks: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, run in runs.items():
            begun = time.perf_counter()
            step(run, sampler, inputs)
            if on_gpu:
                torch.cuda.synchronize()
                peaks[name] = (torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()) / 2**20
                torch.cuda.reset_peak_memory_stats()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begun)
    speeds = {name: 1 / statistics.median(values) for name, values in seconds.items()}
    label = f"sva {what} {str(dtype).removeprefix('torch.')}"
    show(label, speeds["ours"] * len(context), speeds["theirs"] * len(context), "images/s", versus="straight")
    if on_gpu:
        show(f"{label} peak memory", peaks["ours"], peaks["theirs"], "MiB", versus="straight")


def _peak_mib(name: str, is_backward: bool, queue: "multiprocessing.Queue[float]") -> None:
    sampler, inputs = make()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of making the inputs
    before = _status_kib("VmRSS")
    step = forward_backward if is_backward else forward
    step(ours if name == "ours" else theirs, sampler, inputs)
    queue.put((_status_kib("VmHWM") - before) / 1024)


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def compare_memory(what: str, *, is_backward: bool) -> None:
    """Peak memory of both, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for name in ("ours", "theirs"):
        queue: multiprocessing.Queue[float] = context.Queue()
        process = context.Process(target=_peak_mib, args=(name, is_backward, queue))
        process.start()
        peaks[name] = queue.get()
        process.join()
    show(f"sva {what} peak memory", peaks["ours"], peaks["theirs"], "MiB", versus="straight")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=WIDTH, help="hidden width; less than the real one only shows that it runs")
    given = parser.parse_args(arguments)
    rounds, device = given.rounds, given.device
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{hardware}, torch {torch.__version__}, width {given.width}")
    for dtype in (torch.float32, torch.bfloat16):
        compare("forward", forward, dtype=dtype, rounds=rounds, device=device, width=given.width)
        compare("forward+backward", forward_backward, dtype=dtype, rounds=rounds, device=device, width=given.width)
    if device == "cuda" or given.width != WIDTH:
        return 0
    compare_memory("forward", is_backward=False)
    compare_memory("forward+backward", is_backward=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
