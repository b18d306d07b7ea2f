"""One task of the benchmark of private training in a process of its own; started by `confide.bench.privacy`.

    python -m confide.bench.privacy_process TASK FOLDER <WORK

TASK is "times", for all ways by turns, or a way whose memory is measured; WORK a `PrivacyWork` as JSON; see
own_process.py.
"""

from pathlib import Path

import numpy as np
import torch

from confide.bench.memory import MB, peak_resident_mb, resident_mb
from confide.bench.own_process import answer_task
from confide.bench.privacy_ways import make_lab, make_steps, norms_of_first_step, run_pass
from confide.bench.privacy_work import PRIVATE_WAYS, WAYS, Memory, PassTime, PrivacyWork, Times
from confide.errors import RunError

# Of a row's norm: float32 on both ways gives about 1e-5, bfloat16 states about a hundredth of the norm.
_MOST_DIFFERENCE = 0.05


def main() -> None:
    """Runs the task that the command line names."""
    answer_task(_run_task)


def _run_task(task: str, work_json: str, _: Path) -> Times | Memory:
    work = PrivacyWork.from_json(work_json)
    torch.set_num_threads(work.threads)
    return measure_times(work) if task == "times" else measure_memory(work, task)


def measure_times(work: PrivacyWork) -> Times:
    """Runs all ways by turns, each turn from another one, after a step of each that is not counted.

    Raises:
        RunError: the private ways find different norms, so that they do not compute the same.
    """
    lab = make_lab(work)
    num_rows, ways = len(lab.examples), list(WAYS)
    run_pass(lab, work, "plain", min(work.batch_size, num_rows))
    hooks, ghost = (norms_of_first_step(lab, work, way) for way in PRIVATE_WAYS)
    difference = float(np.max(np.abs(ghost - hooks) / hooks))
    if not difference < _MOST_DIFFERENCE:
        raise RunError(
            f"ghost clipping finds norms of rows that differ by up to {100 * difference:.2g} % from those of hooks, "
            "expected the same up to rounding: their times cannot be compared."
        )
    passes: dict[str, list[PassTime]] = {way: [] for way in ways}
    for turn in range(work.repeats):
        first = turn % len(ways)
        for way in ways[first:] + ways[:first]:
            passes[way].append(run_pass(lab, work, way, num_rows))
    return Times(
        passes={way: tuple(found) for way, found in passes.items()},
        num_tokens=sum(example.num_tokens for example in lab.examples),
        num_values=lab.trained.num_values,
        norm_difference=difference,
        device=_device_name(lab.device, lab.model.base.dtype),
    )


def measure_memory(work: PrivacyWork, way: str) -> Memory:
    """Runs one way once, and measures before and after."""
    lab = make_lab(work)
    num_rows = len(lab.examples)
    with make_steps(lab, work, way, num_rows).running():  # loads what the way needs
        pass
    with torch.no_grad():  # reads the weights from disk; a decoder alone makes no logits
        ids = torch.from_numpy(lab.examples[0].input_ids[:16])[None, :].to(lab.device)
        lab.model.module.get_base_model().get_decoder()(input_ids=ids, use_cache=False)
    on_device = lab.device.type == "cuda"
    if on_device:
        torch.cuda.reset_peak_memory_stats(lab.device)
    loaded_mb = resident_mb()
    device_loaded_mb = torch.cuda.memory_allocated(lab.device) / MB if on_device else 0.0
    run_pass(lab, work, way, num_rows)
    return Memory(
        loaded_mb=loaded_mb,
        peak_mb=max(peak_resident_mb(), loaded_mb),  # the system counts a peak a few pages late
        device_loaded_mb=device_loaded_mb,
        device_peak_mb=torch.cuda.max_memory_allocated(lab.device) / MB if on_device else 0.0,
    )


def _device_name(device: torch.device, dtype: torch.dtype) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return f"{name}, {str(dtype).removeprefix('torch.')}"


if __name__ == "__main__":
    main()
