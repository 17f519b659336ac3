from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cl_semisup.datasets._photographs import Photographs, Rows, listed


@dataclass(frozen=True)
class FgvcAircraft(Photographs):
    """FGVC-Aircraft: photographs of 100 variants of aircraft, 6,667 for training and 3,333 for testing.

    The published training and validation parts are both for training.

    Source: arXiv 1306.5151; files as torchvision has them, in `fgvc-aircraft-2013b`
    """

    name: ClassVar[str] = "fgvc_aircraft"
    metric: ClassVar[str] = "mean_per_class"
    files: ClassVar[tuple[str, ...]] = (
        "fgvc-aircraft-2013b/data/variants.txt",
        "fgvc-aircraft-2013b/data/images_variant_trainval.txt",
        "fgvc-aircraft-2013b/data/images_variant_test.txt",
        "fgvc-aircraft-2013b/data/images",
    )

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        train, test = (datasets.FGVCAircraft(data_dir, split, loader=Path) for split in ("trainval", "test"))
        return listed(train), listed(test), train.classes
