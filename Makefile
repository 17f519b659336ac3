# make quickstart   install what is needed, train CLOP and its baselines on real images, print a leaderboard
# make test         install what is needed and run the tests, those of a file mostly in one process, which makes their data once
# make engines      also install Ray, and run the tests that start a Ray cluster and a SLURM, and those of the kernels in C
#                   under gcc's sanitizers of addresses and undefined behaviour
# make slow         install what is needed and run the tests that `make test` leaves out: those of an installed package
# make docs         build the documentation into build/docs and run its notebook from top to bottom
# make axe          fetch axe-core with npm: tests in a browser then look for faults of accessibility too
# make check        lint and type-check
# make gpu          the drill for a GPU: proofs and measurements, into benchmarks/results/gpu (docs/gpu.md)
# make gpu-wheels   packages for a GPU's machine with Python 3.12 that has torch and no downloads, into .gpu/wheels
# make gpu-pack     what travels to such a machine, with these packages, into .gpu/tree
PYTHON ?= python3
export OMP_NUM_THREADS ?= 1

axe:
	npm install --silent --no-audit --no-fund --no-save --prefix .axe axe-core@4

.PHONY: quickstart test slow docs engines axe check gpu gpu-wheels gpu-pack clean

quickstart:
	@python=$$($(PYTHON) tools/environment.py) && $$python benchmark.py suites/quickstart.yaml

test:
	@python=$$($(PYTHON) tools/environment.py test --optional oracle timm safetensors onnx) && $$python -m pytest -n auto --dist worksteal

slow:
	@python=$$($(PYTHON) tools/environment.py test) && $$python -m pytest -m slow

docs:
	@python=$$($(PYTHON) tools/environment.py docs) && export NO_MKDOCS_2_WARNING=1 && \
	$$python -m mkdocs build --quiet && $$python tools/notebook.py docs/tutorial.ipynb && \
	echo "build/docs/index.html is built, and the notebook has run."

engines:
	@python=$$($(PYTHON) tools/environment.py test ray) && \
	$$python -m pytest tests/faults/test_ray.py tests/faults/test_slurm.py && \
	export CC=gcc CL_SEMISUP_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -g" && \
	export ASAN_OPTIONS=detect_leaks=0 && \
	export LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" && \
	$$python -c "from cl_semisup import native; assert not native.missing(), native.missing()" && \
	$$python -m pytest -s tests/native --deselect tests/native/test_library.py

check:
	@python=$$($(PYTHON) tools/environment.py test dev --optional oracle timm safetensors onnx) && \
	$$python -m ruff check . && $$python -m ruff format --check . && $$python -m mypy

gpu:
	@python=$$($(PYTHON) tools/environment.py test) && $$python benchmarks/gpu.py benchmarks/results/gpu

gpu-pack: gpu-wheels
	$(PYTHON) tools/pack_gpu.py .gpu/tree

gpu-wheels:
	$(PYTHON) -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .gpu/wheels \
	  -c constraints.txt pydantic pydantic-core annotated-types typing-inspection lightly lightly-utils \
	  pytorch-lightning torchmetrics lightning-utilities

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
