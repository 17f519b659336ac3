"""How many workers and threads a machine has room for, with the limits of its containers."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cl_semisup.execution import machine
from cl_semisup.execution.machine import default_threads, default_workers
from cl_semisup.system import cgroups
from cl_semisup.system.cgroups import memory_limit, usable_cores

GIB = 2**30


def system(root: Path, group: str, **files: str) -> Path:
    """A folder with the system's files; `__` in a name stands for `/`, below the mount of control groups."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(group)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("_", ".", 1)).write_text(text)
    return root


@pytest.fixture(autouse=True)
def sixty_four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups.os, "sched_getaffinity", lambda _: range(64), raising=False)


def test_without_containers_every_core_gets_a_worker(tmp_path: Path) -> None:
    assert default_workers("cpu", tmp_path) == 64
    assert default_threads("cpu", tmp_path) == 1
    assert (default_workers("cuda", tmp_path), default_threads("cuda", tmp_path)) == (1, 64)


@pytest.mark.parametrize(
    ("group", "files", "cores"),
    [
        ("0::/\n", {"cpu_max": "200000 100000\n"}, 2),  # docker run --cpus 2
        ("0::/\n", {"cpu_max": "150000 100000"}, 2),
        ("0::/\n", {"cpu_max": "5000 100000"}, 1),
        ("0::/\n", {"cpu_max": "max 100000"}, 64),
        ("0::/a/b\n", {"cpu_max": "max 100000", "a__cpu_max": "300000 100000", "a__b__cpu_max": "800000 100000"}, 3),
        ("0::/../a\n", {"a__cpu_max": "300000 100000"}, 3),
        ("1:name=systemd:/\n0::/a\n", {"unified__a__cpu_max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/docker/x\n", {"cpu__cpu_cfs_quota_us": "250000", "cpu__cpu_cfs_period_us": "100000"}, 3),
        (
            "4:cpu,cpuacct:/\n",
            {"cpu,cpuacct__cpu_cfs_quota_us": "90000", "cpu,cpuacct__cpu_cfs_period_us": "100000"},
            1,
        ),
        ("4:cpu:/x\n", {"cpu__x__cpu_cfs_quota_us": "100000", "cpu__x__cpu_cfs_period_us": "100000"}, 1),
        ("4:cpu:/\n", {"cpu__cpu_cfs_quota_us": "-1", "cpu__cpu_cfs_period_us": "100000"}, 64),
        ("nonsense", {"cpu_max": "200000 0"}, 64),
        ("", {"cpu_max": "200000 100000"}, 2),
        ("0::/\n", {"cpu_max": ""}, 64),
        ("0::/\n", {"cpu_max": "99999999999 1"}, 64),
    ],
)
def test_a_quota_of_a_container_limits_workers_and_threads(
    tmp_path: Path, group: str, files: dict[str, str], cores: int
) -> None:
    root = system(tmp_path, group, **files)
    assert usable_cores(root) == cores
    assert default_workers("cpu", root) == cores
    assert (default_threads("cpu", root), default_threads("cuda", root)) == (1, cores)


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/\n", {"memory_max": f"{2 * GIB}\n"}, 2 * GIB),
        ("0::/a\n", {"memory_max": "max", "a__memory_max": f"{4 * GIB}"}, 4 * GIB),
        ("3:memory:/docker/x\n", {"memory__memory_limit_in_bytes": f"{GIB}"}, GIB),
        ("3:memory:/\n", {"memory__memory_limit_in_bytes": "9223372036854771712"}, float("inf")),
        ("0::/\n", {"memory_max": "max"}, float("inf")),
        ("0::/\n", {"memory_max": f"{4 * GIB}", "memory_high": f"{3 * GIB}\n"}, 3 * GIB),
        ("0::/a\n", {"a__memory_max": f"{GIB}", "memory_high": f"{3 * GIB}", "a__memory_high": "max"}, GIB),
        ("0::/\n", {"memory_low": f"{GIB}", "memory_soft_limit": f"{GIB}"}, float("inf")),
        ("9:memory:/x\n", {"memory__memory_stat": f"rss 1\nhierarchical_memory_limit {2 * GIB}\n"}, 2 * GIB),
        ("9:memory:/x\n", {"memory__memory_stat": "hierarchical_memory_limit 9223372036854771712"}, float("inf")),
    ],
)
def test_every_worker_has_room_in_the_memory_of_a_container(
    tmp_path: Path, group: str, files: dict[str, str], limit: float
) -> None:
    root = system(tmp_path, group, **files)
    assert memory_limit(root) == limit
    workers = default_workers("cpu", root)
    assert workers == 64 or workers * machine.WORKER_BYTES <= limit < (workers + 2) * machine.WORKER_BYTES


def test_there_is_always_a_worker(tmp_path: Path) -> None:
    assert default_workers("cpu", system(tmp_path, "0::/", memory_max="1000", cpu_max="1 100000")) == 1


def test_the_memory_of_the_machine_is_read_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, now = list[Path](), [10.0**9]

    def read(root: Path) -> int:
        asked.append(root)
        return len(asked)

    monkeypatch.setattr(cgroups, "_bytes", read)
    monkeypatch.setattr(cgroups, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert [cgroups.machine_bytes() for _ in range(3)] == [1, 1, 1]
    now[0] += 1
    assert cgroups.machine_bytes() == 2 and len(asked) == 2
