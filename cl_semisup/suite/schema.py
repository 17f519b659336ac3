"""The JSON Schema of a suite file, for editors."""

from typing import Any

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.suite import views
from cl_semisup.suite.axes import Axes, SuiteHeader
from cl_semisup.suite.published import Published

VIEWS = "changes to the data set's own views, or views by name in the order in which they are applied"
PUBLISHED = "numbers of papers and repositories, to stand beside ours in the report"
PROBES = "probes: settings by name, or false to leave a default probe out"


def schema() -> dict[str, Any]:
    """The JSON Schema of a suite file. `suite.parse` is stricter: it also checks each cell as a whole."""
    collected = grid.Schema()
    suite = collected.mapping(Axes)
    properties, descriptions = suite["properties"], plugins.field_descriptions(SuiteHeader)
    for key, annotation in grid.annotations(SuiteHeader).items():
        properties[key] = {"description": descriptions[key], **grid.Schema().grid(annotation)["anyOf"][0]}
    properties["views"] = {"description": VIEWS, **views.schema(collected)}
    numbers = grid.Schema().mapping(Published)
    properties["published"] = {"description": PUBLISHED, "type": "array", "items": numbers}
    probes = {}
    for name in plugins.names("evaluation"):
        collected.definitions[f"evaluation.{name}"] = collected.mapping(plugins.load("evaluation", name))
        probes[name] = {
            "description": plugins.summary("evaluation", name),
            "anyOf": [{"$ref": f"#/$defs/evaluation.{name}"}, {"type": "boolean"}, {"type": "null"}],
        }
    probe_mapping = {"type": "object", "properties": probes, "additionalProperties": False}
    properties["probes"] = {"description": PROBES, **probe_mapping}
    suite["required"] = sorted({*suite["required"], "question"})
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cl_semisup suite"}
    return {**head, **suite, "$defs": dict(sorted(collected.definitions.items()))}
