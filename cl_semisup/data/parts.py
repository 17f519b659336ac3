"""Test images in several parts, such as kinds of corruption, each in several severities."""

from dataclasses import dataclass, field

from cl_semisup.data.images import Images


@dataclass(frozen=True, eq=False)
class ImagesInParts(Images):
    """Images whose test part is a sequence of parts: (name, severities, images of each severity), in order."""

    parts: tuple[tuple[str, int, int], ...] = field(default=(), kw_only=True)
