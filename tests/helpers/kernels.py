"""What tests of the kernels in C share."""

import pytest

from cl_semisup import native

needs_kernels = pytest.mark.skipif(bool(native.missing()), reason=f"no kernels: {native.missing()}")
