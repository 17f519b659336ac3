from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Interval

from cl_semisup.datasets import _table
from cl_semisup.datasets._photographs import Photographs, Rows, listed
from cl_semisup.errors import DataError


@dataclass(frozen=True)
class Sun397(Photographs):
    """SUN397: photographs of 397 kinds of scenes, 50 a class for training and 50 for testing in each partition.

    torchvision has no partitions: the published `Training_01.txt` and `Testing_01.txt` must lie in `SUN397`.

    Source: Xiao et al. 2010, SUN Database; files as torchvision has them, in `SUN397`

    Args:
        partition: number of the published split into training and test images
    """

    partition: Annotated[int, Interval(ge=1, le=10)] = 1
    name: ClassVar[str] = "sun397"
    files: ClassVar[tuple[str, ...]] = ("SUN397/ClassName.txt",)

    def tables(self) -> tuple[str, ...]:
        return tuple(f"SUN397/{part}_{self.partition:02}.txt" for part in ("Training", "Testing"))

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        root = data_dir / "SUN397"
        both = datasets.SUN397(data_dir, loader=Path)
        labels = dict(listed(both))
        parts = []
        for name in self.tables():
            path = data_dir / name
            paths = [root / line.strip().lstrip("/") for line in _table.lines(path, "sun397") if line.strip()]
            missing = [file for file in paths if file not in labels]
            if missing:
                rule = "must name images of SUN397"
                raise DataError(f"sun397: {path}: {rule}. Got {len(missing)} that are not there, {missing[0]} first.")
            parts.append([(file, labels[file]) for file in paths])
        return parts[0], parts[1], both.classes
