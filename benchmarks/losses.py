"""What each loss costs alone, forward and backward, relative to NT-Xent: time and peak memory.

    python benchmarks/losses.py [LOSS ...] [--threads N] [--device cuda] [--quick]

Writes benchmarks/results/losses.md and .json; with losses named, theirs are measured anew and the rest stays, and
--quick (small batches, for a look) writes nothing. Each loss has its default settings, projections of 256 and of 4,096
images in 128 dimensions and two or more views, labels of 10 classes for two thirds of them, and whatever else it asks
for, all in float32 and with a gradient. No network is part of it: what a further view or a momentum copy costs a
training is not in these figures; in a leaderboard's column `time` it is.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import _record  # noqa: E402  (the checkout is on the path only now)

RESULTS = Path(__file__).parent / "results" / "losses.json"
BASE = "nt_xent"
BATCHES, DIM, CLASSES, IMAGES = (256, 4096), 128, 10, 10_000
LEAST_SECONDS, LEAST_CALLS, MOST_CALLS = 0.3, 3, 50  # of what is timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("losses", nargs="*")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)  # read when torch is imported
    from cl_semisup import plugins

    batches = (32, 64) if asked.quick else BATCHES
    before = {} if asked.quick or not asked.losses else kept(asked)
    found = {"made_with": made_with(asked), "losses": before}
    for name in dict.fromkeys([BASE, *(asked.losses or plugins.names("losses"))]):
        found["losses"][name] = {str(batch): measure(name, batch, asked.device) for batch in batches}
        print(f"{name}: {found['losses'][name]}", file=sys.stderr, flush=True)
    text = table(found, batches)
    print(text)
    if not asked.quick:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
        RESULTS.with_suffix(".md").write_text(text, "utf-8")


def kept(asked: argparse.Namespace) -> dict[str, Any]:
    """What was measured before; it must have been on this machine with this torch."""
    if not RESULTS.exists():
        return {}
    found = json.loads(RESULTS.read_text("utf-8"))
    now, then = made_with(asked), found["made_with"]
    changed = [key for key in now if key != "commit" and then.get(key) != now[key]]
    if changed:
        sys.exit(f"{RESULTS}: was made with another {', '.join(changed)}. Measure all losses: name none.")
    return dict(found["losses"])


def measure(name: str, batch: int, device: str) -> dict[str, Any]:
    """Median milliseconds and peak MiB of a step of one loss; or why it is not measured."""
    import torch

    from cl_semisup import losses
    from cl_semisup.contract import Batch, provide

    loss = losses.build(name, dim=DIM, classes=CLASSES, images=IMAGES)
    asked = losses.asks(loss)
    if "encode" in asked.needs:
        return {"skipped": "it embeds images of its own making: its cost is the network's"}
    if isinstance(loss, torch.nn.Module):
        loss.to(device)
    drawn = Batch.draw(images=batch, dim=DIM, classes=CLASSES)
    z1, z2 = (z.float().to(device).requires_grad_() for z in (drawn.z1, drawn.z2))
    labels = drawn.labels.to(device) if drawn.labels is not None else None
    apart = provide(asked, Batch(z1.cpu(), z2.cpu(), None), torch.arange(batch), CLASSES)
    extras = {need: as_leaves(value, device) for need, value in apart.items()}
    if "projections" in extras:
        extras["projections"] = (z1, z2, *extras["projections"][2:])

    def step() -> None:
        for tensor in (z1, z2):
            tensor.grad = None
        loss(z1, z2, labels, **extras).backward()

    step()
    return {"milliseconds": 1000 * seconds(step, device), "peak_mib": peak(step, device) / 2**20}


def as_leaves(value: Any, device: str) -> Any:
    """The same value on the device, where gradients end."""
    import torch

    if isinstance(value, tuple):
        return tuple(as_leaves(part, device) for part in value)
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().to(device).requires_grad_(value.requires_grad)


def seconds(step: Callable[[], None], device: str) -> float:
    """Median of at least three calls."""
    import torch

    taken: list[float] = []
    gc.collect()
    while len(taken) < MOST_CALLS and (len(taken) < LEAST_CALLS or sum(taken) < LEAST_SECONDS):
        began = time.perf_counter()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def peak(step: Callable[[], None], device: str) -> float:
    """Most bytes of tensors that a call holds at once beyond its inputs, as torch's allocators count them."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - held
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text("utf-8"))["traceEvents"]
    held = most = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]  # negative where it is given back
        most = max(most, held)
    return most


def table(found: dict[str, Any], batches: tuple[int, ...]) -> str:
    made, measured = found["made_with"], found["losses"]
    how = (
        "torch.cuda.max_memory_allocated" if made["device"] != "cpu" else "the allocations that torch.profiler reports"
    )
    lines = [
        "# What the losses cost",
        "",
        f"`python benchmarks/losses.py` on {made['machine']}, {made['device']}, {made['threads']} threads; Python"
        f" {made['python']}, torch {made['torch']}; commit {made['commit']}.",
        "A loss alone, forward and backward, relative to NT-Xent at the same batch size N (D = 128, float32). Time is",
        f"the median of at least {LEAST_CALLS} calls; memory is the peak beyond the inputs, from {how}.",
        "The network's share of what a loss asks for (further views, a momentum copy) is not in it: a leaderboard's",
        f"column `time` has all of it. Losses that remember every image do so for {IMAGES:,}; `pauc` clusters them",
        "once an epoch, outside of what is timed.",
        "",
        "| loss | " + " | ".join(f"ms, N={n} | x NT-Xent | MiB | x NT-Xent" for n in batches) + " |",
        "|---|" + "---:|---:|---:|---:|" * len(batches),
    ]
    for name, at in sorted(measured.items()):
        cells: list[str] = []
        for n in map(str, batches):
            one, base = at[n], measured[BASE][n]
            if "skipped" in one:
                cells += ["—"] * 4
                continue
            for key, digits in (("milliseconds", 2), ("peak_mib", 1)):
                cells += [f"{one[key]:.{digits}f}", f"{one[key] / base[key]:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    reasons: dict[str, list[str]] = {}
    for name, at in sorted(measured.items()):
        for one in at.values():
            if "skipped" in one and name not in reasons.setdefault(one["skipped"], []):
                reasons[one["skipped"]].append(name)
    lines += ["", *(f"Not measured: {', '.join(names)}: {why}." for why, names in reasons.items())]
    return "\n".join(lines).rstrip() + "\n"


def made_with(asked: argparse.Namespace) -> dict[str, Any]:
    import torch

    device = asked.device if asked.device == "cpu" else torch.cuda.get_device_name()
    return {
        "machine": _record.processor(),
        "device": device,
        "threads": asked.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _record.commit(),
    }


if __name__ == "__main__":
    main()
