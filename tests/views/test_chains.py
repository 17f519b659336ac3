"""Views are plug-ins: a suite names them in the order in which they are applied."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_semisup import plugins
from cl_semisup.data.settings import Views
from cl_semisup.data.views import Draw, ViewMaker, weak
from cl_semisup.errors import InputError, SuiteError
from cl_semisup.execution import run_views
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.results import protocol
from cl_semisup.results.naming import RunNames
from cl_semisup.seeds import seed
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.suite.views import resolve
from cl_semisup.views.crop_and_color import CropAndColor
from cl_semisup.views.solarize import Solarize

Parse = Callable[[str], Suite]
RECIPE = {"crop_area": 0.3, "flip": 0.5, "brightness": 0.4, "hue": 0.1, "blur": 0.3, "noise": 0.02}
MEAN, STD = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 0.2])

pytestmark = pytest.mark.usefixtures("forget_plugins")


def images(count: int = 40, side: int = 12) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def views_of(parse: Parse, text: str, line: str) -> list[Run]:
    return [run for run in parse(text + line + "\n").runs if run.epochs]


def problems(parse: Parse, text: str) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        parse(text)
    return caught.value.problems


def test_a_chain_of_the_basic_recipe_alone_is_the_short_form(parse: Parse, text: str) -> None:
    short = views_of(parse, text, "views: {rotation: 3}")
    chain = views_of(parse, text, "views: {crop_and_color: {rotation: 3}}")
    assert [run.id for run in chain] == [run.id for run in short]
    assert chain[0].views == {"rotation": 3.0, "shift": 0.1, "zoom": 0.15}  # changes to the data set's own
    default = views_of(parse, text, "views: {crop_and_color: }")
    assert [run.id for run in default] == [run.id for run in views_of(parse, text, "")]
    x = images()
    found = ViewMaker([CropAndColor(**RECIPE)], MEAN, STD)(x, 7)
    torch.testing.assert_close(found, ViewMaker(Views(**RECIPE), MEAN, STD)(x, 7), rtol=0, atol=0)


def test_the_order_of_a_chain_is_part_of_the_id(parse: Parse, text: str) -> None:
    (run, *_) = views_of(parse, text, "views: {crop_and_color: {rotation: 3}, solarize: {probability: 0.1}}")
    recipe = {"rotation": 3.0, "shift": 0.1, "zoom": 0.15}
    assert run.views == [{"crop_and_color": recipe}, {"solarize": {"probability": 0.1, "threshold": 0.5}}]
    (other, *_) = views_of(parse, text, "views: {solarize: {probability: 0.1}, crop_and_color: {rotation: 3}}")
    assert other.views == run.views[::-1]
    assert other.id != run.id
    assert Run.from_dict(run.as_dict()).id == run.id


def test_views_are_a_grid_of_both_forms(parse: Parse, text: str) -> None:
    line = "views: [{}, {rotation: [1, 2]}, {crop_and_color: {zoom: 0}, solarize: {probability: [0.1, 0.3]}}]"
    runs = [run for run in views_of(parse, text, line) if run.loss_name == "nt_xent"]
    assert len(runs) == 1 + 2 + 2
    assert len({run.id for run in runs}) == 5
    names = RunNames(runs)
    assert len({names.tasks(run)[0] for run in runs}) == 5
    assert "views.chain=crop_and_color + solarize" in names.tasks(runs[-1])[0]
    assert "views.solarize.probability=0.3" in names.tasks(runs[-1])[0]


def test_only_views_beside_the_basic_recipe_have_versions(parse: Parse, text: str) -> None:
    (run, *_) = views_of(parse, text, "views: {crop_and_color: , solarize: }")
    assert protocol.versions(run)["views.solarize"] == plugins.version("views", "solarize")
    assert "views.crop_and_color" not in protocol.versions(run)
    (short, *_) = views_of(parse, text, "")
    assert not [key for key in protocol.versions(short) if key.startswith("views.")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("views: {solarise: {}}", "views.solarise: unknown setting or view 'solarise'. Did you mean 'solarize'?"),
        ("views: {solarize: {}, blurr: {}}", "views.blurr: unknown view 'blurr'."),
        (
            "views: {solarize: {}, rotation: 3}",
            "views.rotation: is a setting of crop_and_color, and beside it are views. Got both. Write it below "
            "`crop_and_color:`.",
        ),
        ("views: {solarize: {probability: 2}}", "views.solarize.probability: must be less than or equal to 1"),
        ("views: [{}, {solarize: 3}]", "views[1].solarize: must be a mapping of settings. Got 3."),
    ],
)
def test_a_wrong_chain_is_told_with_its_place(parse: Parse, text: str, line: str, message: str) -> None:
    (problem,) = problems(parse, text + line + "\n")
    assert message in problem


VIEW = """
from dataclasses import dataclass
from typing import ClassVar
from cl_semisup.errors import InputError

@dataclass(frozen=True)
class Mine:
    \"\"\"A view of one's own.\"\"\"

    low: float = 0.0
    high: float = 1.0
    inputs: ClassVar[str] = "features"

    def __post_init__(self):
        if self.low > self.high:
            raise InputError(f"low: must not exceed high. Got {self.low} and {self.high}. Change one.")

    def view(self, images, draw):
        return images
"""


def test_a_view_that_takes_features_is_refused_for_images(tmp_path: Path, parse: Parse, text: str) -> None:
    (tmp_path / "mine.py").write_text(VIEW)
    plugins.add(tmp_path / "mine.py")
    (problem,) = problems(parse, text + "views: {mine: }\n")
    assert "views: takes features, and digits has images. Got 'mine'. Leave it out." in problem
    (problem,) = problems(parse, text + "views: {mine: {low: 2}}\n")
    assert "views: low: must not exceed high. Got 2.0 and 1.0. Change one." in problem


def test_a_view_of_ones_own_cannot_take_the_name_of_a_setting(tmp_path: Path, parse: Parse, text: str) -> None:
    (tmp_path / "blur.py").write_text(VIEW)
    plugins.add(tmp_path / "blur.py")
    (problem,) = problems(parse, text + "views: {blur: 0.5}\n")
    assert "views.blur: names a view of your own and a setting of crop_and_color. Got both meanings." in problem


def test_a_chain_applies_each_view_to_what_the_one_before_made() -> None:
    """The basic recipe at the start draws as it does alone; what follows has draws of its own."""
    x = images()
    recipe, both = CropAndColor(**RECIPE), Solarize(probability=0.5, threshold=0.4)
    first = ViewMaker(Views(**RECIPE), torch.zeros(3), torch.ones(3))(x, 7)
    found = ViewMaker([recipe, both], MEAN, STD)(x, 7)
    drawn = Draw(torch.Generator().manual_seed(seed("view", 7, 1)), torch.arange(40), x, 0)
    expected = (both.view(first, drawn) - MEAN[:, None, None]) / STD[:, None, None]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    again = ViewMaker([both, recipe], MEAN, STD)
    torch.testing.assert_close(again(x, 7), again(x, 7), rtol=0, atol=0)
    assert not torch.equal(again(x, 7), found)
    assert not torch.equal(again(x, 7), again(x, 8))


def test_features_are_neither_scaled_nor_normalised() -> None:
    rows = torch.randn(6, 5, 1, 1)
    make = ViewMaker(Views(), torch.zeros(5), torch.ones(5))
    torch.testing.assert_close(make.normalize(rows), rows, rtol=0, atol=0)
    torch.testing.assert_close(make(rows, 1), rows, rtol=0, atol=0)
    torch.testing.assert_close(ViewMaker([], torch.zeros(5), torch.ones(5))(rows, 1), rows, rtol=0, atol=0)


def test_a_view_knows_its_number_and_the_images_places() -> None:
    seen: list[Draw] = []

    class Look:
        def view(self, images: Tensor, draw: Draw) -> Tensor:
            seen.append(draw)
            return images

    x = images(10)
    index = torch.tensor([3, 1])
    ViewMaker([Look()], MEAN, STD)(x[index], 5, 1, index, x)
    assert seen[0].view == 1
    assert torch.equal(seen[0].data[seen[0].index], x[index])
    for half in ((None, x), (index, None)):  # one without the other tells nothing
        ViewMaker([Look()], MEAN, STD)(x[index], 5, 1, *half)
        assert torch.equal(seen.pop().data, x[index])


def test_a_view_that_changes_the_shape_is_told() -> None:
    class Half:
        def view(self, images: Tensor, draw: Draw) -> Tensor:
            return images[..., ::2]

    rule = r"Half: a view must be float32 and keep the shape. Got torch.float32 \(4, 3, 12, 6\) of \(4, 3, 12, 12\)."
    with pytest.raises(InputError, match=rule):
        ViewMaker([Half()], MEAN, STD)(images(4), 1)


@pytest.mark.parametrize(
    ("chosen", "own", "views"),
    [
        ({}, {"mixup": {}}, [{"mixup": {"probability": 1.0, "weight": 0.2}}]),
        ({}, {"crop_and_color": {"flip": 0.5}}, {"flip": 0.5}),
        ({"zoom": 0.1}, {"mixup": {}}, {"zoom": 0.1}),  # in place of a chain that has no basic view
        (
            {"zoom": 0.1},
            {"crop_and_color": {"flip": 0.5}, "solarize": {}},
            [{"crop_and_color": {"flip": 0.5, "zoom": 0.1}}, {"solarize": {"probability": 0.2, "threshold": 0.5}}],
        ),
        (
            [{"crop_and_color": {"zoom": 0.1}}],
            {"solarize": {}, "crop_and_color": {"flip": 0.5}},
            {"flip": 0.5, "zoom": 0.1},
        ),
        ([{"solarize": {"probability": 0.1}}], {"flip": 0.5}, [{"solarize": {"probability": 0.1}}]),
        ({"flip": 0.0}, {"flip": 0.5}, {}),
    ],
)
def test_a_data_set_may_have_a_chain_of_its_own(chosen: Any, own: dict[str, Any], views: Any) -> None:
    assert resolve(chosen, own) == views


def test_the_weak_view_of_a_chain_is_that_of_its_basic_view(parse: Parse, text: str) -> None:
    def weak_of(line: str, side: int = 8) -> Views:
        (run, *_) = views_of(parse, text, line)
        data = SimpleNamespace(train_images=torch.zeros(2, 1, side, side), mean=torch.zeros(1), std=torch.ones(1))
        return run_views.derived(run, data, weak).settings  # type: ignore[arg-type,return-value]

    assert weak_of("views: {solarize: , crop_and_color: {flip: 0.5}}") == Views(flip=0.5, shift=0.125, jitter=0.0)
    assert weak_of("views: {solarize: }") == Views(shift=0.125, jitter=0.0)
    assert weak_of("views: {solarize: }", side=1) == Views()


def test_a_run_trains_and_is_evaluated_under_a_chain(tmp_path: Path, parse: Parse, text: str) -> None:
    (run, *_) = views_of(parse, text, "views: {crop_and_color: , solarize: {probability: 0.5}}")
    machine = Machine("cpu", str(tmp_path))
    (record, _), (other, _) = (Executor(machine)(r) for r in (run, replace(run, views=run.views[0]["crop_and_color"])))
    assert record["status"] == other["status"] == "ok"
    assert record["diagnostics"]["alignment"] != other["diagnostics"]["alignment"]
    assert Executor(machine)(run)[0]["scores"] == record["scores"]
