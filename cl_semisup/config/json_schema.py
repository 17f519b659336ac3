"""JSON Schemas of suites, so that editors complete and check what `grid.expand` accepts."""

from dataclasses import is_dataclass
from typing import Any

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.plugins import PluginField


class Schema:
    """Makes JSON Schemas; the schema of every plug-in is collected once, under `$defs`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def grid(self, annotation: Any, description: str = "") -> dict[str, Any]:
        """A node: one value, or a list of them (a grid, or plug-ins that belong together)."""
        one = self._single(annotation)
        many = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
        return ({"description": description} if description else {}) | {"anyOf": [one, many]}

    def mapping(self, cls: type) -> dict[str, Any]:
        """A mapping of a dataclass's fields; no other keys."""
        descriptions = plugins.field_descriptions(cls)
        schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
        schema["properties"] = {k: self.grid(a, descriptions.get(k, "")) for k, a in grid.annotations(cls).items()}
        for key, value in grid.defaults(cls).items():
            schema["properties"][key]["default"] = value
        required = [k for k in grid.annotations(cls) if k not in grid.defaults(cls)]
        return schema | ({"required": required} if required else {})

    def _single(self, annotation: Any) -> dict[str, Any]:
        if (required := grid.without_none(annotation)) is not None:
            return {"anyOf": [self._single(required), {"enum": ["none", None]}]}
        field = grid.plugin_field(annotation)
        if field is not None:
            return self._plugin(field)
        if is_dataclass(annotation) and isinstance(annotation, type):
            return self.mapping(annotation)
        return grid.adapter_of(annotation).json_schema()

    def _plugin(self, field: PluginField) -> dict[str, Any]:
        """A reference to the folder's plug-ins, written once under `$defs`; they may contain themselves (a base)."""
        key = f"{field.folder}_or_none" if field.optional else field.folder
        if key not in self.definitions:
            self.definitions[key] = {}  # ends the recursion
            names = plugins.names(field.folder)
            bare = [name for name in names if self._all_default(field.folder, name)]
            forms: list[dict[str, Any]] = [{"enum": bare + (["none"] if field.optional else [])}]
            self.definitions[key] = {"anyOf": forms + [self._named(field.folder, name) for name in names]}
        return {"$ref": f"#/$defs/{key}"}

    def _named(self, folder: str, name: str) -> dict[str, Any]:
        """One plug-in with settings: `{name: {...}}`."""
        key = f"{folder}.{name}"
        if key not in self.definitions:
            self.definitions[key] = {}
            settings = self.mapping(plugins.load(folder, name))
            self.definitions[key] = {"description": plugins.summary(folder, name), **settings}
        one = {"type": "object", "properties": {name: {"$ref": f"#/$defs/{key}"}}}
        return {**one, "required": [name], "additionalProperties": False}

    @staticmethod
    def _all_default(folder: str, name: str) -> bool:
        plugin = plugins.load(folder, name)
        return len(grid.defaults(plugin)) == len(grid.annotations(plugin))
