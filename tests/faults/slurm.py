"""A SLURM of one node, of this machine's own binaries, in a scratch folder: nothing outside it is touched."""

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
    """Why no SLURM can be started here; "" if one can."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if lacking:
        return f"no SLURM on this machine: {', '.join(lacking)} (Debian: apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "only root can start SLURM's daemons"


def _path() -> str:
    return os.environ["PATH"] + ":/usr/sbin"


class Slurm:
    """Two CPUs, a partition `low` and a partition `high`, whose jobs put those of `low` back into the queue."""

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

    def call(self, *words: str) -> str:
        """What a command of SLURM's prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def start_now(self) -> None:
        """Spare the jobs that were put back the two minutes for which SLURM lets them lie."""
        for job in self.call("squeue", "--noheader", "--states=PENDING", "--array", "--format=%i").split():
            self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    @staticmethod
    def until(done: Callable[[], bool], seconds: float = 400.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "SLURM takes too long"
            time.sleep(0.2)


def _ports() -> list[int]:
    """Two that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]
