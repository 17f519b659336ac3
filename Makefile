# make quickstart   install what is needed, train CLOP and its baselines on real images, print a leaderboard
# make test         install what is needed and run the tests
# make engines      also install Ray, and run the tests that start a Ray cluster and a SLURM, and those of the kernels in C
#                   under gcc's sanitizers of addresses and undefined behaviour
# make check        lint and type-check
PYTHON ?= python3
export OMP_NUM_THREADS ?= 1

.PHONY: quickstart test engines check clean

quickstart:
	@python=$$($(PYTHON) tools/environment.py) && $$python benchmark.py suites/quickstart.yaml

test:
	@python=$$($(PYTHON) tools/environment.py test --optional oracle timm safetensors onnx) && $$python -m pytest -n auto

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

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
