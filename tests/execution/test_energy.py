"""Joules and CO2 of runs, with imitated counters: RAPL's files below a folder, and NVML as a module."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cl_semisup.errors import InputError
from cl_semisup.execution import energy, execute
from cl_semisup.execution.energy import Meter
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.results import records
from cl_semisup.suite.suite import Suite

RANGE = 65_532_610_987  # microjoules after which AMD's counters begin anew


class System:
    """A folder with the system's files; processor seconds of this process are `own`."""

    def __init__(self, root: Path):
        self.root, self.own = root, 0.0
        self.busy(0)

    def zone(self, folder: str, name: str, microjoules: int = 0) -> None:
        path = self.root / "sys/class/powercap" / folder
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{RANGE}\n")
        self.set(folder, microjoules)

    def set(self, folder: str, microjoules: int) -> None:
        new = self.root / "new"
        new.write_text(f"{microjoules}\n")
        new.replace(self.root / "sys/class/powercap" / folder / "energy_uj")  # a thread may read it just now

    def busy(self, seconds: float) -> None:
        """Of all processes; user, nice, system and interrupts count, idle time and waiting do not."""
        ticks = int(seconds * os.sysconf("SC_CLK_TCK"))
        (self.root / "proc").mkdir(exist_ok=True)
        line = f"cpu  {ticks - 6} 1 2 {9 * ticks} 77 1 2 55 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n"
        (self.root / "proc/stat").write_text(line)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    made = System(tmp_path)
    monkeypatch.setattr(energy.time, "process_time", lambda: made.own)
    return made


def test_a_process_gets_the_share_of_all_packages_that_it_had_in_processor_time(system: System) -> None:
    for folder, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),  # a part of package 0
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),  # the platform, packages included
        ("intel-rapl-mmio:0", "package-0"),  # the same package once more
    ):
        system.zone(folder, name, 1000)
    with Meter(root=system.root) as meter:
        for folder in ("intel-rapl:0:0", "intel-rapl:2", "intel-rapl-mmio:0"):
            system.set(folder, 999_000_000)
        system.set("intel-rapl:0", 1000 + 30_000_000)
        system.set("intel-rapl:0:1", 1000 + 2_000_000)
        system.set("intel-rapl:1", 1000 + 8_000_000)
        system.own = 3.0
        system.busy(12.0)
    assert meter.joules == {"cpu": pytest.approx(40.0 * 3 / 12)}


def test_a_counter_that_began_anew_goes_on(system: System) -> None:
    system.zone("intel-rapl:0", "package-0", RANGE - 4_000_000)
    with Meter(root=system.root) as meter:
        system.set("intel-rapl:0", 6_000_000)
        system.own = 1.0
        system.busy(1.0)
    assert meter.joules == {"cpu": pytest.approx(10.0)}


def test_a_counter_that_begins_anew_several_times_is_read_in_between() -> None:
    values = iter([90, 20, 70, 10])
    counter = energy._Counter(lambda: next(values), limit=100)
    for _ in range(3):
        counter.sample()
    assert counter.total == 30 + 50 + 40


def test_counters_are_read_now_and_then(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sees a rise between two readings of the main one, which alone would see nothing."""
    monkeypatch.setattr(energy, "SAMPLE_SECONDS", 0.001)
    system.zone("intel-rapl:0", "package-0", 0)
    with Meter(root=system.root) as meter:
        (counter,) = meter._counters["cpu"]
        for microjoules in (RANGE // 2, 0):
            system.set("intel-rapl:0", microjoules)
            while counter.last != microjoules:
                assert meter._thread.is_alive()
        system.own = 1.0
        system.busy(1.0)
    assert meter.joules == {"cpu": pytest.approx(1e-6 * RANGE)}


def _unreadable(system: System) -> None:
    path = system.root / "sys/class/powercap/intel-rapl:1/energy_uj"
    path.unlink()
    path.mkdir()  # reading it raises an OSError, for root too


def _no_number(system: System) -> None:
    (system.root / "sys/class/powercap/intel-rapl:1/energy_uj").write_text("unknown")


def _no_times(system: System) -> None:
    (system.root / "proc/stat").unlink()


@pytest.mark.parametrize("break_it", [_unreadable, _no_number, _no_times])
@pytest.mark.parametrize("during", [False, True])
def test_there_are_no_joules_where_a_part_cannot_be_read(
    system: System, break_it: Callable[[System], None], during: bool
) -> None:
    """The other package's would be a part of the sum, which looks like the whole."""
    system.zone("intel-rapl:0", "package-0")
    system.zone("intel-rapl:1", "package-1")
    if not during:
        break_it(system)
    with Meter(root=system.root) as meter:
        system.set("intel-rapl:0", 5_000_000)
        system.own = 1.0
        system.busy(1.0)
        if during:
            break_it(system)
    assert meter.joules == {}


def test_a_machine_without_counters_has_no_joules_and_no_thread(system: System) -> None:
    with Meter(root=system.root) as meter:
        assert not meter._thread.is_alive()
    assert meter.joules == {}


class Nvml:
    """NVML of one GPU that other processes use too."""

    def __init__(self, processes: int, *millijoules: int):
        self.processes, self.millijoules = processes, list(millijoules)

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        assert uuid == "GPU-12ab"
        return "the handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        assert handle == "the handle"
        return self.millijoules.pop(0)  # an IndexError stands for NVMLError_NotSupported

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        return [object()] * self.processes


@pytest.mark.parametrize(("processes", "joules"), [(0, 60.0), (1, 60.0), (3, 20.0)])
def test_a_gpu_is_divided_among_the_processes_that_compute_on_it(
    system: System, monkeypatch: pytest.MonkeyPatch, processes: int, joules: float
) -> None:
    """In a container the list of processes may be empty."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(processes, 5_000, 65_000))  # type: ignore[arg-type]
    system.zone("intel-rapl:0", "package-0")
    with Meter("12ab", system.root) as meter:
        system.set("intel-rapl:0", 8_000_000)
        system.own = 1.0
        system.busy(4.0)
    assert meter.joules == {"gpu": pytest.approx(joules), "cpu": pytest.approx(2.0)}


def test_a_gpu_tells_where_the_processor_does_not(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(1, 0, 7_000))  # type: ignore[arg-type]
    with Meter("12ab", system.root) as meter:
        pass
    assert meter.joules == {"gpu": pytest.approx(7.0)}


@pytest.mark.parametrize(
    "nvml",
    [
        None,  # it cannot be imported
        SimpleNamespace(nvmlInit=lambda: 1 / 0),  # no driver
        Nvml(1),  # a GPU that does not count
        Nvml(1, 9_000, 10),  # the driver was loaded anew
    ],
)
def test_a_run_on_a_gpu_that_does_not_tell_has_no_joules_of_its_processor_alone(
    system: System, monkeypatch: pytest.MonkeyPatch, nvml: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    system.zone("intel-rapl:0", "package-0")
    with Meter("12ab", system.root) as meter:
        system.set("intel-rapl:0", 8_000_000)
        system.own = 1.0
        system.busy(4.0)
    assert meter.joules == {}


def test_a_kilowatt_hour_is_as_many_grams_as_the_factor_says() -> None:
    found = energy.costs([{"cpu": 3.0e6, "gpu": 0.5e6}, {"cpu": 0.1e6, "gpu": 0.0}], grams=500.0)
    assert found == {
        "cpu_joules": 3.1e6,
        "gpu_joules": 0.5e6,
        "energy_joules": 3.6e6,
        "co2_kg": pytest.approx(0.5),
        "grams_co2_per_kwh": 500.0,
    }


@pytest.mark.parametrize("parts", [[], [{}], [{"cpu": 1.0}, {}], [{}, {"cpu": 1.0}], [{"cpu": 1.0}, {"gpu": 1.0}]])
def test_a_run_of_which_a_part_was_not_counted_has_no_joules(parts: list[energy.Joules]) -> None:
    assert energy.costs(parts, grams=500.0) == {}


def test_the_factor_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Machine("cpu", "data").grams_co2_per_kwh == energy.GRAMS_CO2_PER_KWH
    monkeypatch.setenv("CL_SEMISUP_GRAMS_PER_KWH", "56")
    assert Machine("cpu", "data").grams_co2_per_kwh == 56
    for text in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("CL_SEMISUP_GRAMS_PER_KWH", text)
        with pytest.raises(InputError, match=f"must be a number of at least 0. Got '{text}'. Set grams of CO2"):
            Machine("cpu", "data")


def test_a_record_has_the_joules_of_training_and_evaluation(
    parse: Callable[[str], Suite], text: str, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.zone("intel-rapl:0", "package-0")
    monkeypatch.setattr(energy, "Meter", partial(Meter, root=system.root))

    def spend(joules: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def spending(*arguments: Any, **keywords: Any) -> Any:
            file = system.root / "sys/class/powercap/intel-rapl:0/energy_uj"
            system.set("intel-rapl:0", int(file.read_text()) + joules * 1_000_000)
            system.own += 1.0
            system.busy(2 * system.own)
            return function(*arguments, **keywords)

        return spending

    monkeypatch.setattr(execute.Trainer, "_fit", spend(600, execute.Trainer._fit))
    monkeypatch.setattr(execute.evaluation, "measure", spend(20, execute.evaluation.measure))
    run = parse(text).runs[-1]
    record, _ = Executor(Machine("cpu", "data", grams_co2_per_kwh=1000.0))(run)
    cost = record["cost"]
    assert record["status"] == "ok" and records.measures_problem(record) == ""
    assert (cost["energy_joules"], cost["cpu_joules"]) == (pytest.approx(310.0), pytest.approx(310.0))
    assert cost["co2_kg"] == pytest.approx(310.0 / 3.6e6) and "gpu_joules" not in cost
    record, _ = Executor(Machine("cpu", "data"))(run.untrained())
    assert record["cost"]["energy_joules"] == pytest.approx(10.0)
