"""The JSON Schema of a suite file, for editors."""

from typing import Any

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.config.json_schema import Schema
from cl_semisup.suite import search_schema as searches
from cl_semisup.suite import views
from cl_semisup.suite.axes import Axes, SuiteHeader
from cl_semisup.suite.published import Published

VIEWS = "changes to the data set's own views, or views by name in the order in which they are applied"
PUBLISHED = "numbers of papers and repositories, to stand beside ours in the report"
PROBES = "probes: settings by name, or false to leave a default probe out"


def schema() -> dict[str, Any]:
    """The JSON Schema of a suite file. `suite.parse` is stricter: it also checks each cell as a whole."""
    collected = Schema()
    suite = collected.mapping(Axes)
    properties, descriptions = suite["properties"], plugins.field_descriptions(SuiteHeader)
    for key, annotation in grid.annotations(SuiteHeader).items():
        properties[key] = {"description": descriptions[key], **Schema().grid(annotation)["anyOf"][0]}
    properties["views"] = {"description": VIEWS, **views.schema(collected)}
    numbers = Schema().mapping(Published)
    properties["published"] = {"description": PUBLISHED, "type": "array", "items": numbers}
    probes = {}
    names = plugins.names("evaluation")
    for name in names:
        words = [other for other in names if plugins.class_variable("evaluation", other, "named_by", "") == name]
        collected.definitions[f"evaluation.{name}"] = collected.mapping(plugins.load("evaluation", name))
        probes[name] = {
            "description": plugins.summary("evaluation", name),
            "anyOf": [{"$ref": f"#/$defs/evaluation.{name}"}, {"type": "boolean"}, {"type": "null"}]
            + ([{"enum": words}] if words else []),
        }
    probe_mapping = {"type": "object", "properties": probes, "additionalProperties": False}
    properties["probes"] = {"description": PROBES, **probe_mapping}
    _add_searches(properties, collected.definitions)
    suite["required"] = sorted({*suite["required"], "question"})
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cl_semisup suite"}
    return {**head, **suite, "$defs": dict(sorted(collected.definitions.items()))}


def _add_searches(properties: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Searches where learning rates, batch sizes, repetitions and the numbers of losses stand."""
    definitions["edge"], resolve = searches.edge_schema(), searches.resolve_schema()
    settings = [properties["learning_rate"], properties["batch_size"]]
    for name, definition in definitions.items():
        if name.startswith("losses."):
            settings += definition["properties"].values()
    for setting in settings:
        if any(one.get("type") in ("number", "integer") for one in setting["anyOf"]):
            setting["anyOf"].append({"$ref": "#/$defs/edge"})
            setting["anyOf"].append(searches.race_schema(setting["anyOf"][0]))
    for key in ("optimizer", "schedule"):
        properties[key]["anyOf"].append(searches.race_schema(properties[key]["anyOf"][0]))
    repetitions = properties["repetitions"]
    one = {key: repetitions.pop(key) for key in list(repetitions) if key not in ("description", "default")}
    repetitions["anyOf"] = [one, resolve]
