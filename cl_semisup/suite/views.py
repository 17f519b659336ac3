"""The `views` of a suite: settings of the basic recipe (the short form), or a chain of views in the order of the text.

In a run the short form is a mapping, without the settings that change nothing; a chain is a list of {name: settings}.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.config.json_schema import Schema
from cl_semisup.config.yaml_source import YamlPath
from cl_semisup.data.settings import Views
from cl_semisup.errors import unknown
from cl_semisup.plugins import PluginField
from cl_semisup.suite.run import BASIC_VIEW, Named

Chosen = dict[str, Any] | list[Named]


def expand(node: Any, problems: list[Problem]) -> list[GridValue]:
    """What the suite names, as `resolve` takes it; a list is a grid."""
    members = list(enumerate(node)) if isinstance(node, list) else [(None, node)]
    if not members:
        problems.append(Problem(("views",), "must not be an empty list. Got []. Give at least one value."))
    values = []
    for index, member in members:
        path: YamlPath = ("views",) if index is None else ("views", index)
        if isinstance(member, dict) and _names_chain(member):
            values += [GridValue(chain, path) for chain in _chains(member, path, problems)]
        else:
            values += [GridValue(value, path) for value in _settings(member, path, problems)]
    return values


def resolve(chosen: Chosen, of_dataset: Mapping[str, Any]) -> Chosen:
    """The views of a run: what the suite names over the data set's own, which are a short form or a chain too."""
    own: list[Named] = [{BASIC_VIEW: dict(of_dataset)}]
    if _names_chain(of_dataset):
        annotation = Annotated[Any, PluginField("views")]
        own = [
            {name: dict(settings)} if name == BASIC_VIEW else grid.canonical(annotation, {name: settings}, "views")
            for name, settings in of_dataset.items()
        ]
    base = next((view[BASIC_VIEW] for view in own if BASIC_VIEW in view), {})
    if isinstance(chosen, dict):  # changes to the basic recipe, which a chain without it does not have
        changed: list[Named] = [{BASIC_VIEW: chosen}]
        if any(BASIC_VIEW in view for view in own):
            changed = [changed[0] if BASIC_VIEW in view else view for view in own]
        chosen = changed if chosen else own
    chain = [
        {name: _without_defaults(base | settings) if name == BASIC_VIEW else settings}
        for view in chosen
        for name, settings in view.items()
    ]
    alone = len(chain) == 1 and BASIC_VIEW in chain[0]
    return chain[0][BASIC_VIEW] if alone else chain


def schema(collected: Schema) -> dict[str, Any]:
    """The JSON Schema of both forms."""
    short = collected.mapping(Views)
    for setting in short["properties"].values():
        setting.pop("default")  # the data set has its own
    chain = {}
    for name in plugins.names("views"):
        mapping = short if name == BASIC_VIEW else collected.mapping(plugins.load("views", name))
        collected.definitions[f"views.{name}"] = mapping
        description = plugins.summary("views", name)
        chain[name] = {"description": description, "anyOf": [{"$ref": f"#/$defs/views.{name}"}, {"type": "null"}]}
    forms = [short, {"type": "object", "properties": chain, "additionalProperties": False}]
    return {"anyOf": [*forms, {"type": "array", "items": {"anyOf": forms}, "minItems": 1}]}


def _names_chain(node: Mapping[str, Any]) -> bool:
    """Does the mapping name views? A name that is also a setting of the basic recipe is that setting."""
    settings = grid.annotations(Views)
    return any(key not in settings and key in plugins.paths("views") for key in node)


def _settings(node: Any, path: YamlPath, problems: list[Problem]) -> list[dict[str, Any]]:
    """The short form."""
    settings = grid.annotations(Views)
    for key in node if isinstance(node, dict) else ():
        at = (*path, key) if isinstance(key, str | int) else path
        if key not in settings:  # it may be meant as the name of a view
            known = [*settings, *plugins.names("views")]
            rule = f"{unknown('setting or view', key, known)}. {plugins.HOW_TO_ADD}"
            problems.append(Problem(at, rule, of_key=True))
        elif key in plugins.paths("views"):
            rule = f"names a view of your own and a setting of {BASIC_VIEW}. Got both meanings. Rename the view's file."
            problems.append(Problem(at, rule, of_key=True))
    known_settings = {key: node[key] for key in node if key in settings} if isinstance(node, dict) else node
    return grid.mapping(known_settings, Views, path, problems, {})


def _chains(node: dict[str, Any], path: YamlPath, problems: list[Problem]) -> list[list[Named]]:
    """Every combination of the settings of a chain's views."""
    columns: list[list[Named]] = []
    for name, settings in node.items():
        at = (*path, name) if isinstance(name, str | int) else path
        if name in plugins.paths("views"):
            plugin = plugins.load("views", name)
            base = {} if name == BASIC_VIEW else grid.defaults(plugin)
            columns.append([{name: row} for row in grid.mapping(settings, plugin, at, problems, base)])
        elif name in grid.annotations(Views):
            rule = f"is a setting of {BASIC_VIEW}, and beside it are views. Got both. Write it below `{BASIC_VIEW}:`."
            problems.append(Problem(at, rule, of_key=True))
        else:
            problems.append(Problem(at, plugins.unknown("views", name), of_key=True))
    return [list(row) for row in grid.combinations(columns, path, problems)]


def _without_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the basic recipe that change something, sorted."""
    off = grid.defaults(Views)
    return {key: value for key, value in sorted(settings.items()) if value != off[key]}
