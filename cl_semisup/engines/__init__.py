"""What executes trainings: processes of this machine, a Ray cluster, SLURM jobs, torchrun."""
