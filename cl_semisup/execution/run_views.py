"""The makers of a run's random views: of its training images, of its test images, and by a derived recipe."""

from collections.abc import Callable

from cl_semisup import plugins
from cl_semisup.data.settings import Views
from cl_semisup.data.views import RandomView, ViewMaker, weak
from cl_semisup.execution.data import Data
from cl_semisup.suite.run import Run


def of_training(run: Run, data: Data) -> dict[str, ViewMaker]:
    """Recipe (`full`, `weak`, `local`) -> maker."""
    local = ViewMaker(_chain(run), data.mean, data.std, True, data.train_rows, data.view_side)
    return {"full": full(run, data), "weak": derived(run, data, weak, data.view_side), "local": local}


def full(run: Run, data: Data) -> ViewMaker:
    """The run's own views of training images."""
    return ViewMaker(_chain(run), data.mean, data.std, rows=data.train_rows, side=data.view_side)


def of_test(run: Run, data: Data) -> ViewMaker:
    """The run's own views of test images."""
    return ViewMaker(_chain(run), data.mean, data.std, rows=data.test_rows)


def derived(run: Run, data: Data, recipe: Callable[[Views], Views], side: int | None = None) -> ViewMaker:
    """A recipe derived from the basic one of the chain, without its other views; features stay as they are."""
    chain = _chain(run)
    members = [chain] if isinstance(chain, Views) else chain
    basic = next((member for member in members if isinstance(member, Views)), Views())
    is_features = data.train_images.shape[-1] == 1
    return ViewMaker(Views() if is_features else recipe(basic), data.mean, data.std, side=side)


def _chain(run: Run) -> Views | list[RandomView]:
    if isinstance(run.views, dict):
        return Views(**run.views)
    return [plugins.load("views", name)(**settings) for view in run.views for name, settings in view.items()]
