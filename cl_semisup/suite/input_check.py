"""Rules of a cell that follow from what its data set holds, images or rows of features; and something is trained."""

from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.config.grid import GridValue
from cl_semisup.data.images import Facts
from cl_semisup.errors import DataError, InputError, described, stops_process
from cl_semisup.suite.run import Named


def build(folder: str, named: Named) -> Any:
    """The plug-in of `{name: settings}`, whose settings are checked."""
    (name, settings) = next(iter(named.items()))
    return plugins.load(folder, name)(**settings)


def default_views(dataset: Named, data_dir: Path, with_data: bool = True) -> dict[str, Any]:
    """The views of a data set where the suite names none; they may depend on its files, which may be missing."""
    plugin = build("datasets", dataset)
    with plugins.plugin_errors("datasets", next(iter(dataset))):
        views: dict[str, Any] = plugin.views
    try:
        return plugin.default_views(data_dir) if hasattr(plugin, "default_views") else views
    except DataError:
        if with_data:
            raise
        return views


def is_frozen(encoder: Named) -> bool:
    """Whether the encoder has no weights that training changes: it says so in `frozen`."""
    return bool(getattr(build("encoders", encoder), "frozen", False))


def broken_rules(cell: dict[str, GridValue], facts: Facts, data_dir: Path) -> list[tuple[GridValue, str]]:
    """(value, rule) of what does not fit."""
    broken = _probes(cell["probes"], facts, data_dir)
    encoder, projector = cell["encoder"], cell["projector"]
    (name,) = encoder.value
    if is_frozen(encoder.value) and projector.value["layers"] == 0:
        rule = f"must have a layer: the encoder {name!r} has no weights, and nothing else shapes the projections"
        broken.append((GridValue(0, (*projector.path, "layers")), f"{rule}. Got layers 0. Give it one."))
    if facts.inputs != "images" and (reason := _why_unfit(encoder.value, facts)):
        rule = f"must take rows of {facts.channels} features"
        broken.append((encoder, f"{rule}. Got {name!r}: {reason}. Use linear, mlp or identity."))
    if problem := _layers_problem(cell["optimizer"].value, encoder.value, facts):
        broken.append((cell["optimizer"], problem))
    return broken


def _layers_problem(optimizer: Named, encoder: Named, facts: Facts) -> str:
    """Why an optimizer whose steps see the layers of the encoder cannot train this one, or ""."""
    from cl_semisup import encoders, optimizers

    plugin = build("optimizers", optimizer)
    try:
        if plugins.is_users_own("optimizers", next(iter(optimizer))):
            optimizers.trial(plugin)  # it imports PyTorch's compiler, which takes seconds; the contract tries ours
        if optimizers.is_layer_causal(plugin):
            encoders.linear_layers(encoders.without_numbers(build("encoders", encoder), facts.channels, facts.side))
    except InputError as error:
        return str(error)
    except BaseException as error:  # a user's own plug-in may raise anything
        if stops_process(error):
            raise
        return f"must be buildable. Got {described(error)}. Mend the optimizer or the encoder."
    return ""


def _probes(probes: GridValue, facts: Facts, data_dir: Path) -> list[tuple[GridValue, str]]:
    broken = []
    for name, settings in probes.value.items():
        at = GridValue(name, (*probes.path, name))
        takes = plugins.class_variable("evaluation", name, "inputs", "any")
        if takes not in ("any", facts.inputs):
            rule = f"needs {takes}: the data have {facts.inputs}"
            broken.append((at, f"{rule}. Got {name!r}. Leave it out."))
        for other in settings.get("datasets") or ():
            try:
                found = build("datasets", other).facts(data_dir)
            except DataError:  # told where data are prepared
                continue
            if found.inputs != facts.inputs or (found.inputs != "images" and found.channels != facts.channels):
                rule = f"needs data sets like the run's own, {facts.inputs}{_width(facts)}"
                broken.append((at, f"{rule}. Got {next(iter(other))}, {found.inputs}{_width(found)}. Leave it out."))
    return broken


def _width(facts: Facts) -> str:
    return "" if facts.inputs == "images" else f" of {facts.channels} columns"


def _why_unfit(encoder: Named, facts: Facts) -> str:
    """Why the encoder cannot take such features, or ""."""
    from cl_semisup import encoders

    try:
        encoders.trial(build("encoders", encoder), facts.channels, facts.side)
    except BaseException as error:  # a user's own plug-in may raise anything
        if stops_process(error):
            raise
        return described(error).splitlines()[0]
    return ""
