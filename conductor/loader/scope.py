"""What the checks of one pipeline share: where to report, what the project offers, what expressions may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from conductor.core.graph import Ancestry
from conductor.core.vendor import Json
from conductor.loader.diagnostics import Report
from conductor.loader.models import PipelineFile
from conductor.loader.types import FLAVOURS, RUN_TYPES, Schema, object_type, sample
from conductor.sdk.plugin import Operation, Plugin

__all__ = ["Operations", "ProjectFacts", "Scope", "context_types", "needs_connection", "samples_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """What a pipeline may refer to outside its own file.

    Attributes:
        connections: Name → type.
        pools: Names.
        default_connections: Type → the connection that nodes use when they name none.
        is_complete: False where conductor.yml or connections.yml could not be read; then what is not found here may
            still exist, and is not reported.
        environment: What expressions see as `env`.
    """

    connections: Mapping[str, str] = field(default_factory=dict)
    pools: frozenset[str] = frozenset()
    default_connections: Mapping[str, str] = field(default_factory=dict)
    is_complete: bool = True
    environment: str = "default"


class Operations:
    """The installed operations, with the schemas of their outputs made once, when first asked for."""

    def __init__(self, plugins: Mapping[str, Plugin]) -> None:
        self.plugins = plugins
        self._outputs: dict[str, Schema] = {}

    def get(self, uses: str) -> Operation | None:
        """The operation; None when it is not installed."""
        kind, _, name = uses.partition(".")
        plugin = self.plugins.get(kind)
        return plugin.operations.get(name) if plugin is not None else None

    def outputs(self, uses: str) -> Schema:
        """The JSON Schema of its outputs, as the integration gives them."""
        if uses not in self._outputs:
            operation = self.get(uses)
            self._outputs[uses] = operation.outputs.model_json_schema(mode="serialization") if operation else {}
        return self._outputs[uses]


@dataclass(slots=True, kw_only=True)
class Scope:
    """One pipeline being checked.

    Attributes:
        report: Where diagnostics go.
        operations: What is installed.
        facts: What the project offers.
        file: The pipeline, as far as its shape is right.
        written: The ids of all nodes, also of those whose shape is wrong.
        ancestry: Which node depends on which.
        types: The JSON Schema of everything that expressions may see.
        samples: One context of values of these types for each flavour.
    """

    report: Report
    operations: Operations
    facts: ProjectFacts
    file: PipelineFile
    written: frozenset[str]
    ancestry: Ancestry
    types: Schema
    samples: tuple[Mapping[str, Json], ...]


def context_types(params: Mapping[str, Schema], uses: Mapping[str, str], operations: Operations) -> Schema:
    """The JSON Schema of the mapping that `core.context.build_context` makes."""
    text: Schema = {"type": "string"}
    nodes = {
        node: object_type({"status": {"type": "string", "sample": "succeeded"}, "outputs": operations.outputs(name)})
        for node, name in uses.items()
    }
    return object_type(
        {
            "params": object_type(params),
            "run": RUN_TYPES,
            "nodes": object_type(nodes),
            "pipeline": object_type({"name": text, "version": text, "owner": text}),
            "env": text,
        }
    )


def samples_of(types: Schema) -> tuple[Mapping[str, Json], ...]:
    """A context of each flavour."""
    contexts = []
    for flavour in FLAVOURS:
        value = sample(types, flavour)
        assert isinstance(value, dict)
        contexts.append(value)
    return tuple(contexts)


def needs_connection(model: type[BaseModel]) -> bool:
    """True when nothing can be built without values from connections.yml."""
    return any(info.is_required() for info in model.model_fields.values())
