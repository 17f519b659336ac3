"""What a suite's data are, in sentences: told by `check` and by the first lines of a run, so that nothing surprises."""

import re
from dataclasses import dataclass

from cl_semisup.data.images import Facts
from cl_semisup.data.pixel_facts import PixelFacts
from cl_semisup.errors import MAX_LINE_LENGTH, cut, first_ten

UNLABELLED_NAMES = (
    *("unlabelled", "unlabeled", "unlabelled_images", "unlabeled_images", "unknown"),
    *("nan", "none", "null", "n/a", "na", "?", "nolabel", "no_label"),
)
# brightest values that 16-bit files of fewer bits leave at most when 65535 becomes 255: (value, bits, their white)
DARK = ((4, 10, 1023), (16, 12, 4095), (64, 14, 16383))


@dataclass(frozen=True)
class Layout:
    """What the files of a data set hold, beside its sizes; a plug-in's `layout(data_dir)` gives it without decoding.

    Args:
        classes: their names; () if they are not known
        test: where the test part comes from; "" where the data have one
        validation: where validation comes from; "" for a share of the training images
        unused: folders or arrays that are there and are not used
        notes: what is no fault, yet may not be meant
    """

    classes: tuple[str, ...] = ()
    test: str = ""
    validation: str = ""
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """A data set of a suite. `pixels` is None where they were not looked at."""

    name: str
    facts: Facts
    layout: Layout
    pixels: PixelFacts | None = None

    def short(self) -> str:
        """The data set in one line, for the first lines of a run."""
        facts, notes = self.facts, self.notes()
        text = f"{self.name}: {facts.train:,} training images, {facts.labelled:,} with a label, in {self._classes()}"
        text += f"; {facts.test:,} test images"
        if self.pixels and self.pixels.duplicates:
            text += f", {self.pixels.duplicates:,} of them also training images"
        return f"{text}; {self._size()}." + (f" Notes: {len(notes)}, see `check`." if notes else "")

    def lines(self) -> list[str]:
        """The data set in full."""
        facts, layout = self.facts, self.layout
        without = facts.train - facts.labelled
        lines = [
            f"{self.name}: {facts.train:,} training images ({facts.labelled:,} with a label, {without:,} without) in "
            f"{self._classes()}, {facts.test:,} test images; {self._size()}."
        ]
        sizes = self._sizes()
        if any(sizes):
            small, large = min(sizes), max(sizes)
            least, most = (self._class(sizes.index(size)) for size in (small, large))
            what = f"each {small:,}" if small == large else f"{small:,} ({least}) to {large:,} ({most})"
            lines.append(f"  training images of a class: {what}.")
        if empty := [self._class(label) for label, size in enumerate(sizes) if not size]:
            lines.append(f"  classes without training images: {_some(empty)}.")
        if facts.untested:
            lines.append(f"  classes without test images: {_some([repr(name) for name in facts.untested])}.")
        lines.append(f"  test part: {layout.test or 'its own'}. validation: {layout.validation or _SHARE}.")
        lines.append(f"  pixels: {self._pixels()}")
        if layout.unused:
            lines.append(f"  not used: {first_ten(layout.unused)}.")
        return [cut(line, MAX_LINE_LENGTH) for line in (*lines, *(f"  note: {note}" for note in self.notes()))]

    def notes(self) -> list[str]:
        """What is suspicious."""
        sizes, notes = self._sizes(), list(self.layout.notes)
        if len(sizes) > 1 and not sizes[0] and all(sizes[1:]):
            rule = "labels seem to start at 1, which makes an empty class 0 and changes chance"
            notes.append(f"{rule}. Subtract 1 from them, or leave it if a class 0 is meant.")
        if found := [name for name in self.layout.classes if name.lower() in UNLABELLED_NAMES]:
            rule = f"a class is called {found[0]!r}: its images count as labelled"
            remedy = "Move them to `unlabelled` beside `train`, or give them the label -1, or an empty cell in a table"
            notes.append(f"{rule}. {remedy}.")
        if self.facts.classes == 1:
            rule = f"there is one class alone, {self._class(0)}, and nothing to tell apart"
            notes.append(f"{rule}. Name the folder that holds the class folders, or tell labels in a table.")
        known = {*self.layout.classes}
        if joined := [
            name for name in self.layout.classes if not known.isdisjoint({*re.split("[|,;]", name)} - {name})
        ]:
            rule = f"classes such as {joined[0]!r} seem to be several labels, and count as classes of their own"
            notes.append(f"{rule}. Keep one label an image.")
        if self.pixels and len(self.pixels.counts) == 4 and not any(self.pixels.counts[3][:255]):
            notes.append("the fourth channel is 255 everywhere, as transparency is. Save `x[..., :3]`.")
        values = self.pixels.values if self.pixels else ()
        if values and set(values) <= {0, 1}:
            notes.append(
                "all pixels are 0 or 1 of 255, which is black. Save `(255 * x).astype('uint8')` if 1 is white."
            )
        elif values and values[-1] <= DARK[-1][0]:
            bits, white = next((bits, white) for value, bits, white in DARK if values[-1] <= value)
            rule = f"the brightest pixel is {values[-1]} of 255, as in 16-bit files whose brightest is {white}"
            notes.append(
                f"{rule} ({bits} bit). Set `white: {white}`, or `white: data` for the brightest pixel there is."
            )
        if self.pixels and self.pixels.duplicates:
            rule = f"{self.pixels.duplicates:,} of {self.facts.test:,} test images are also training images"
            notes.append(f"{rule}, pixel by pixel. Remove them from one part, or scores are too high.")
        return notes

    def _sizes(self) -> tuple[int, ...]:
        """Training images of each class."""
        return self.facts.class_sizes or (self.facts.smallest_class,) * self.facts.classes

    def _class(self, label: int) -> str:
        return repr(self.layout.classes[label]) if self.layout.classes else f"class {label}"

    def _classes(self) -> str:
        return "1 class" if self.facts.classes == 1 else f"{self.facts.classes:,} classes"

    def _size(self) -> str:
        colours = {1: "grey", 3: "RGB"}.get(self.facts.channels, f"{self.facts.channels} channels")
        return f"{self.facts.side} x {self.facts.side} pixels, {colours}"

    def _pixels(self) -> str:
        if self.pixels is None:
            return "not looked at."
        duplicates = f"{self.pixels.duplicates:,} test images are exact duplicates of training images."
        if not (values := self.pixels.values):
            return duplicates
        return f"{values[0]} to {values[-1]}; {duplicates}"


_SHARE = "a share of the training images"


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
