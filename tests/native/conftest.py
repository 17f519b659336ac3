from collections.abc import Iterator

import pytest

from cl_semisup import native
from cl_semisup.native import library


@pytest.fixture(autouse=True)
def _kernels_in_use() -> Iterator[None]:
    """The kernels are loaded anew after a test that changes the environment."""
    with native.used():
        yield
    library._load_once.cache_clear()
