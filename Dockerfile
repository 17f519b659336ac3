# The command cl-semisup in a container (docs/install.md). CPU: docker build -t cl-semisup .
# GPU: docker build -t cl-semisup:gpu --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 --build-arg TORCH=cuda .
ARG BASE=ubuntu:24.04
FROM ${BASE}

# torch's usual wheels bring the CUDA libraries; those of PyTorch's own CPU index are 3.3 GB smaller
ARG TORCH=cpu
ENV VIRTUAL_ENV=/opt/cl-semisup PATH=/opt/cl-semisup/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1

# gcc builds the kernels in C once, on the machine that runs them
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv "$VIRTUAL_ENV"

WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE constraints.txt ./
COPY cl_semisup cl_semisup
COPY suites suites
RUN index=$([ "$TORCH" = cpu ] && echo "--index-url https://download.pytorch.org/whl/cpu" || echo "") \
 && pins=$(grep -E "^(torch|torchvision)==" constraints.txt) \
 && pip install --no-cache-dir $index $pins \
 && grep -vE "^(torch|torchvision)==" constraints.txt > /tmp/constraints.txt \
 && pip install --no-cache-dir -c /tmp/constraints.txt . \
 && rm -rf /source

# runs are written where the container starts; they belong to an ordinary user
RUN useradd --create-home --uid 10001 runner && mkdir -p /work/results && chown -R runner /work
USER runner
WORKDIR /work
ENTRYPOINT ["cl-semisup"]
CMD ["--help"]
