"""Time and peak memory of each loss alone, forward and backward, relative to NT-Xent.

    python benchmarks/losses.py [LOSS ...] [--threads N] [--device cuda] [--quick]

Writes benchmarks/results/losses.md and .json. With names of losses only these are measured again; --quick (small
batches) writes nothing. Each loss has its default settings, projections of 256 and of 4,096 images in 128 dimensions
and two or more views, labels of 10 classes for two thirds of the images, and all other inputs that it asks for, in
float32 and with a gradient. There is no network: the cost of further views or a momentum copy in a training is not
included; a leaderboard's column `time` includes it.
"""

import gc
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import _common

BASE = "nt_xent"
BATCHES, DIM, CLASSES, IMAGES = (256, 4096), 128, 10, 10_000
MIN_SECONDS, MIN_CALLS, MAX_CALLS = 0.3, 3, 50  # of the timed calls


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("losses", nargs="*")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # read when torch is imported
    from cl_semisup import plugins

    batches = (32, 64) if options.quick else BATCHES
    made_with = provenance(options.device, options.threads)
    measured = stored_losses(made_with) if options.losses and not options.quick else {}
    for name in dict.fromkeys([BASE, *(options.losses or plugins.names("losses"))]):
        measured[name] = {str(batch): measure(name, batch, options.device) for batch in batches}
        print(f"{name}: {measured[name]}", file=sys.stderr, flush=True)
    results = {"losses": dict(sorted(measured.items())), "made_with": made_with}
    text = page(results, batches)
    print(text)
    if not options.quick:
        _common.save("losses", text, results)


def stored_losses(made_with: dict[str, Any]) -> dict[str, Any]:
    """Earlier measurements; they must be of the same machine and versions."""
    stored = _common.load("losses")
    if not stored:
        return {}
    changed = [key for key in made_with if key != "commit" and stored["made_with"].get(key) != made_with[key]]
    if changed:
        sys.exit(f"results/losses.json: was made with another {', '.join(changed)}. Measure all losses: name none.")
    return dict(stored["losses"])


def measure(name: str, batch: int, device: str) -> dict[str, Any]:
    """Median milliseconds and peak MiB of a step of one loss; or why it is not measured."""
    import torch

    from cl_semisup import losses
    from cl_semisup.contract import Batch, extra_inputs

    loss = losses.build(name, dim=DIM, classes=CLASSES, images=IMAGES)
    requirements = losses.requirements_of(loss)
    if "encode" in requirements.needs:
        return {"skipped": "it embeds images of its own making: its cost is the network's"}
    if isinstance(loss, torch.nn.Module):
        loss.to(device)
    drawn = Batch.draw(images=batch, dim=DIM, classes=CLASSES)
    z1, z2 = (z.float().to(device).requires_grad_() for z in (drawn.z1, drawn.z2))
    labels = drawn.labels.to(device) if drawn.labels is not None else None
    inputs = extra_inputs(requirements, Batch(z1.cpu(), z2.cpu(), None), torch.arange(batch), CLASSES)
    extras = {name: as_leaves(value, device) for name, value in inputs.items()}
    if "projections" in extras:
        extras["projections"] = (z1, z2, *extras["projections"][2:])

    def step() -> None:
        for tensor in (z1, z2):
            tensor.grad = None
        loss(z1, z2, labels, **extras).backward()

    step()
    gc.collect()
    times = _common.repeated(step, least=MIN_CALLS, most=MAX_CALLS, enough=MIN_SECONDS, device=device)
    return {"milliseconds": 1000 * median(times), "peak_mib": peak(step, device) / 2**20}


def as_leaves(value: Any, device: str) -> Any:
    """The value on the device, as leaves of the graph."""
    import torch

    if isinstance(value, tuple):
        return tuple(as_leaves(part, device) for part in value)
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().to(device).requires_grad_(value.requires_grad)


def peak(step: Callable[[], None], device: str) -> float:
    """Peak bytes of the tensors of a call beyond its inputs, as counted by torch's allocators."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text("utf-8"))["traceEvents"]
    allocated = most = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        allocated += event["args"]["Bytes"]  # negative for freed memory
        most = max(most, allocated)
    return most


def page(results: dict[str, Any], batches: tuple[int, ...]) -> str:
    """The results as Markdown."""
    made, measured = results["made_with"], results["losses"]
    counter = (
        "torch.cuda.max_memory_allocated" if made["device"] != "cpu" else "the allocations that torch.profiler reports"
    )
    header = ["loss", *(column for n in batches for column in (f"ms, N={n}", "x NT-Xent", "MiB", "x NT-Xent"))]
    rows = [[name, *(cell for n in batches for cell in cells(measured, name, str(n)))] for name in sorted(measured)]
    skipped: dict[str, list[str]] = {}
    for name, sizes in sorted(measured.items()):
        for reason in {size["skipped"]: None for size in sizes.values() if "skipped" in size}:
            skipped.setdefault(reason, []).append(name)
    return _common.page(
        "What the losses cost",
        f"`python benchmarks/losses.py` on {made['machine']}, {made['device']}, {made['threads']} threads; Python"
        f" {made['python']}, torch {made['torch']}; commit {made['commit']}.\n"
        "A loss alone, forward and backward, relative to NT-Xent at the same batch size N (D = 128, float32). Time is\n"
        f"the median of at least {MIN_CALLS} calls; memory is the peak beyond the inputs, from {counter}.\n"
        "The network's share of what a loss asks for (further views, a momentum copy) is not in it: a leaderboard's\n"
        f"column `time` has all of it. Losses that remember every image do so for {IMAGES:,}; `pauc` clusters them\n"
        "once an epoch, outside of what is timed.",
        _common.table(header, rows, numbers=True),
        *(f"Not measured: {', '.join(names)}: {reason}." for reason, names in skipped.items()),
    )


def cells(measured: dict[str, Any], name: str, batch: str) -> list[str]:
    """Milliseconds and MiB of a loss, each followed by its ratio to NT-Xent's."""
    ours, base = measured[name][batch], measured[BASE][batch]
    if "skipped" in ours:
        return ["—"] * 4
    return [
        f"{ours['milliseconds']:.2f}",
        f"{ours['milliseconds'] / base['milliseconds']:.2f}",
        f"{ours['peak_mib']:.1f}",
        f"{ours['peak_mib'] / base['peak_mib']:.2f}",
    ]


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Machine and versions of this process."""
    import torch

    return {
        "machine": _common.processor(),
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _common.commit(),
    }


if __name__ == "__main__":
    main()
