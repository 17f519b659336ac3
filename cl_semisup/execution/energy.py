"""Joules of a run, where the machine tells, and the CO2 that stands for them.

A processor's joules come from its RAPL counters, which Linux shows below /sys/class/powercap (Intel and AMD): the sum
of all packages and of their memory. They are the whole machine's, so a run gets the share of them that its process had
in the processor time of all processes. A GPU's joules come from NVIDIA's NVML, divided by the number of processes that
compute on it. Both are estimates: idle power is divided in the same way, and nothing else of the machine is counted.

Source: Linux, Documentation/power/powercap/powercap.rst; NVML, nvmlDeviceGetTotalEnergyConsumption
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from cl_semisup.errors import InputError

GRAMS_CO2_PER_KWH = 436.0  # of electricity, world average of 2022: Ember, Global Electricity Review 2023
FACTOR = "CL_SEMISUP_GRAMS_PER_KWH"  # the environment variable that replaces it
JOULES_PER_KWH = 3.6e6
SAMPLE_SECONDS = 20.0  # the smallest counters begin anew after 65 kJ, in 20 s at 3 kW
Joules = dict[str, float]  # "cpu" and "gpu"; empty if the machine does not tell


def grams_per_kwh() -> float:
    """The factor of this user: grams of CO2 per kWh."""
    text = os.environ.get(FACTOR, "")
    try:
        grams = float(text) if text else GRAMS_CO2_PER_KWH
    except ValueError:
        grams = math.nan
    if not 0 <= grams < math.inf:
        raise InputError(f"{FACTOR}: must be a number of at least 0. Got {text!r}. Set grams of CO2 per kWh.")
    return grams


def costs(parts: Iterable[Joules], grams: float) -> dict[str, float]:
    """A record's costs from the joules of a run's parts; {} unless every part tells the same counters."""
    readings = list(parts)
    if not readings or not readings[0] or any(part.keys() != readings[0].keys() for part in readings):
        return {}
    found = {f"{name}_joules": sum(part[name] for part in readings) for name in readings[0]}
    joules = sum(found.values())
    co2 = {"co2_kg": joules / JOULES_PER_KWH * grams / 1000, "grams_co2_per_kwh": grams}
    return found | {"energy_joules": joules} | co2


class Meter:
    """A context; `joules` is what was counted in it. A thread reads the counters now and then, as they begin anew.

    Args:
        gpu: the UUID of the GPU that the process uses, without the prefix `GPU-`; "" for none
        root: the folder of the system's files
    """

    def __init__(self, gpu: str = "", root: Path = Path("/")):
        self.joules: Joules = {}
        self._gpu, self._root, self._done = gpu, root, threading.Event()
        self._counters: dict[str, list[_Counter]] = {}
        self._sharers = 1

    def __enter__(self) -> Self:
        self._counters = {name: found for name, found in self._found().items() if found}
        self._began = self._clocks()
        self._thread = threading.Thread(target=self._watch, name="energy", daemon=True)
        if self._counters:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._counters:
            return
        self._done.set()
        self._thread.join()
        if self._sample():
            self.joules = self._shares()

    def _found(self) -> dict[str, list["_Counter"]]:
        """The counters that can be read; none if the GPU that does the work does not tell."""
        cpu = _packages(self._root / "sys/class/powercap")
        if not self._gpu:
            return {"cpu": cpu}
        return {"cpu": cpu, "gpu": [gpu]} if (gpu := self._open_gpu()) else {}

    def _open_gpu(self) -> "_Counter | None":
        try:
            nvml: Any = import_module("pynvml")
            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{self._gpu}")

            def read() -> int:
                self._sharers = max(self._sharers, len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)))
                return 1000 * int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))  # it tells millijoules

            return _Counter(read)
        except Exception:  # the package, the driver or the counter is not there; NVML has error classes of its own
            return None

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS) and self._sample():
            pass

    def _sample(self) -> bool:
        """Read all counters; if one fails, all are given up, as a part of a sum is no sum."""
        try:
            for counters in self._counters.values():
                for counter in counters:
                    counter.sample()
        except Exception:  # as in _open_gpu
            self._counters = {}
        return bool(self._counters)

    def _shares(self) -> Joules:
        own, all_processes = (now - began for now, began in zip(self._clocks(), self._began, strict=True))
        joules = {name: 1e-6 * sum(one.total for one in counters) for name, counters in self._counters.items()}
        if "gpu" in joules:
            joules["gpu"] /= self._sharers
        if "cpu" in joules and not all_processes > 0:
            return {}
        return joules | ({"cpu": joules["cpu"] * min(1.0, own / all_processes)} if "cpu" in joules else {})

    def _clocks(self) -> tuple[float, float]:
        """Processor seconds of this process, and of all; the latter is NaN if the system does not tell."""
        return time.process_time(), _busy_seconds(self._root / "proc/stat")


class _Counter:
    """Sums the rises of a counter of microjoules, which begins anew beyond `limit`."""

    def __init__(self, read: Callable[[], int], limit: int = 0):
        self.read, self.limit, self.total = read, limit, 0
        self.last = read()

    def sample(self) -> None:
        now = self.read()
        if now < self.last and not self.limit:
            raise ValueError("the counter has been set back")
        self.total += now - self.last + (self.limit if now < self.last else 0)
        self.last = now


def _packages(folder: Path) -> list[_Counter]:
    """A counter for each package and for its memory; none if any of them cannot be read.

    Zones of cores and of graphics are parts of a package; `psys` is the platform with its packages; `intel-rapl-mmio`
    shows the same packages once more.
    """
    counters = []
    try:
        for zone in sorted(folder.glob("intel-rapl:*")):
            name = (zone / "name").read_text("ascii").strip()
            if name.startswith("package") or name == "dram":
                limit = int((zone / "max_energy_range_uj").read_text("ascii"))
                counters.append(_Counter(lambda file=zone / "energy_uj": int(file.read_text("ascii")), limit))  # type: ignore[misc]
    except (OSError, ValueError):  # since 2020 only root may read them: they tell what other processes compute
        return []
    return counters


def _busy_seconds(file: Path) -> float:
    """Of all processes on all processors: all but what was idle, or waiting, or another machine's."""
    try:
        ticks = [int(word) for word in file.read_text("ascii").split("\n", 1)[0].split()[1:8]]
        user, nice, system, _, _, irq, softirq = ticks
        return float(user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return math.nan
