"""What each phase of a training step takes of the memory."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.types import on_device
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.devices import default_device
from blocknerf.scene.sampler import PixelSampler
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.optimizer import BlockOptimizer

Phase = tuple[str, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class PhaseMemory:
    """Peaks of one phase in bytes.

    `resident_peak` counts all of the process, code and mapped photographs too; None where the system does not let a
    process begin its count anew. `torch_peak` counts tensors, and only what was allocated since the step began.
    """

    phase: str
    resident_peak: int | None
    torch_peak: int


def profile_step(model: BlockNeRF, sampler: PixelSampler, config: TrainingConfig) -> list[PhaseMemory]:
    """One step on a batch of `sampler`: data, forward, backward, optimiser.

    A step before it is not counted: it compiles kernels and makes the optimiser's moments. All rates are zero, and
    yet `model` is left with a gradient sink: give a copy.
    """
    optimizer, loss = BlockOptimizer(model, config), BlockNeRFLoss(config)
    device = model.device
    rng = torch.Generator(device).manual_seed(0)
    rates = dict.fromkeys(optimizer.components, 0.0)
    held = {}

    def data() -> None:
        held["batch"] = on_device(sampler.next(), device)

    def forward() -> None:
        with default_device(device):
            held["total"], _ = loss(model, held["batch"], rng)

    def backward() -> None:
        held.pop("total").backward()

    def optimiser() -> None:
        optimizer.step(rates)

    phases = [(step.__name__, step) for step in (data, forward, backward, optimiser)]
    for _, run in phases:
        run()
    held.clear()
    return measure_phases(phases, next(model.parameters()).device)


def measure_phases(phases: Sequence[Phase], device: torch.device) -> list[PhaseMemory]:
    """Runs the phases in their order and measures each."""
    if device.type == "cuda":
        return _measure_on_cuda(phases, device)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler greets on the console otherwise
    resident: dict[str, int | None] = {}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        for name, run in phases:
            counted = _forget_resident_peak()
            with record_function(name):
                run()
            resident[name] = _resident_peak() if counted else None
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return [PhaseMemory(name, resident[name], torch_peak_in(events, name)) for name, _ in phases]


def torch_peak_in(events: Sequence[dict], phase: str) -> int:
    """The most bytes allocated at once while `phase` ran, from the events of a torch profile; at least 0."""
    (span,) = (event for event in events if event.get("cat") == "user_annotation" and event["name"] == phase)
    begin, end = span["ts"], span["ts"] + span["dur"]
    changes = sorted(
        (event["ts"], event["args"]["Total Allocated"]) for event in events if event.get("name") == "[memory]"
    )
    before = [total for at, total in changes if at < begin][-1:]
    return max([0, *before, *(total for at, total in changes if begin <= at <= end)])


def _measure_on_cuda(phases: Sequence[Phase], device: torch.device) -> list[PhaseMemory]:
    measured = []
    at_first = torch.cuda.memory_allocated(device)
    for name, run in phases:
        torch.cuda.reset_peak_memory_stats(device)
        counted = _forget_resident_peak()
        run()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - at_first
        measured.append(PhaseMemory(name, _resident_peak() if counted else None, max(0, peak)))
    return measured


def _forget_resident_peak() -> bool:
    """Sets the process's peak to what is resident now; False where the system forbids it (see proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
