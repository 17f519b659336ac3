"""A SLURM cluster of one node, from this machine's binaries, in a scratch folder; it touches nothing else."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "munged")
CONFIGURATION = """\
ClusterName=scratch
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=15
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes=ALL PriorityTier=2 State=UP
"""


def missing() -> str:
    """Why SLURM cannot be started here; "" if it can."""
    programs = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if programs:
        return f"no SLURM on this machine: {', '.join(programs)} (Debian: apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "only root can start SLURM's daemons"


def _path() -> str:
    return os.environ["PATH"] + ":/usr/sbin"


class Slurm:
    """Two CPUs and two partitions; jobs of `high` pre-empt those of `low`, which then wait in the queue again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}

    def __enter__(self) -> "Slurm":
        folder = self.folder
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        configuration = CONFIGURATION.format(folder=folder, host=socket.gethostname().split(".")[0], ports=_ports())
        (folder / "slurm.conf").write_text(configuration)
        files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
        files |= {"log-file": folder / "munged.log", "seed-file": folder / "munge.seed"}
        self.call("munged", "--force", *(f"--{name}={path}" for name, path in files.items()))
        self.call("slurmctld")
        self.call("slurmd")
        self.until(lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T"))
        return self

    def __exit__(self, *_: object) -> None:
        self.call("scancel", "--user=root")
        self.until(lambda: not self.call("squeue", "--noheader"))
        for name in ("slurmd", "slurmctld", "munged"):
            pid = int((self.folder / f"{name}.pid").read_text())
            os.kill(pid, signal.SIGTERM)
            self.until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]

    def call(self, *command: str) -> str:
        """What a command of SLURM prints."""
        process = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert process.returncode == 0, f"{command}: {process.stderr}"
        return process.stdout

    def start_now(self) -> None:
        """Start requeued jobs now; SLURM would wait two minutes."""
        for job in self.call("squeue", "--noheader", "--states=PENDING", "--array", "--format=%i").split():
            self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = 400.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "SLURM takes too long"
            time.sleep(0.2)


def _ports() -> list[int]:
    """Two unused ports."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]
