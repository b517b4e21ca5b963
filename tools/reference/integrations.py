"""The page of integrations: what each operation can promise, side by side, and the fields of each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import ValidationError

from conductor.core.vendor import Capabilities, Correlation, Delivery, Json
from conductor.loader.durations import format_duration
from conductor.sdk.plugin import Operation, Plugin
from tools.reference.models import fields_table, model_sections, models_below, says
from tools.reference.source import attribute_lines, cell, heading_anchor, member_lines, table

__all__ = ["integrations_page"]

_INTRO = """\
# Integrations

What each operation can do and promise, as its code declares it. `conductor` decides from exactly these values. How a
lost start is handled in each class is on [How a start happens once](../explanation/starts.md).

"""
_VARIANTS: Mapping[str, Mapping[str, Mapping[str, Json]]] = MappingProxyType(
    {
        "http.job": {
            "with `key`": {"key": {"header": "Idempotency-Key"}},
            "with `find` and `key`": {
                "start": {"path": "/jobs", "id": "id", "json": {"cause": "{key}"}},
                "find": {"path": "/jobs", "items": "$", "id": "id", "key": "cause"},
            },
            "with `find` by time": {"find": {"path": "/jobs", "items": "$", "id": "id", "created": "created_at"}},
            "with neither": {},
        }
    }
)
"""Operations whose promise depends on the node's `with`: each variant, over `_BASE`."""
_BASE: Mapping[str, Mapping[str, Json]] = MappingProxyType(
    {
        "command.run": {"argv": ["true"]},
        "fivetran.sync": {"connection_id": "orders"},
        "hightouch.sync": {"sync_id": 1},
        "sql.gate": {"sql": "select 1"},
        "http.job": {
            "start": {"path": "/jobs", "id": "id"},
            "poll": {"path": "/jobs/{id}", "state": "state"},
            "states": {"done": "succeeded", "error": "failed"},
        },
    }
)
"""A smallest `with` for each operation that has required settings: promises are asked of real settings."""
_AFTER_TABLE = """\
`http.job` can cancel where the node declares `cancel`, and looks at many runs at once where it declares `batch`.
"""


def integrations_page(plugins: Mapping[str, Plugin]) -> str:
    """The page for these integrations, by kind."""
    return "\n".join(
        [
            _INTRO + _overview(plugins),
            _AFTER_TABLE,
            _legend(),
            *(_section(plugin) for _, plugin in sorted(plugins.items())),
        ]
    )


def _variants(uses: str, operation: Operation) -> dict[str, Capabilities]:
    found = {}
    for name, given in _VARIANTS.get(uses, {"": {}}).items():
        try:
            settings = operation.settings.model_validate({**_BASE.get(uses, {}), **given})
        except ValidationError as error:
            raise ValueError(f"{uses} cannot be described: give it a smallest `with` in {__name__}._BASE") from error
        found[name] = operation.capabilities(settings.model_dump(mode="json", by_alias=True))
    return found


def _delivery(can: Capabilities) -> str:
    if can.sends_nothing:
        return "-"
    if can.correlation is Correlation.NONE:
        return "must be said"
    return f"`{can.delivery}`"


def _overview(plugins: Mapping[str, Plugin]) -> str:
    rows = []
    for kind, plugin in sorted(plugins.items()):
        for name, operation in sorted(plugin.operations.items()):
            uses = f"{kind}.{name}"
            for variant, can in _variants(uses, operation).items():
                rows.append(
                    (
                        f"[`{uses}`](#{heading_anchor(uses)}){f' {variant}' if variant else ''}",
                        "sends nothing" if can.sends_nothing else f"`{can.correlation}`",
                        _delivery(can),
                        f"`{can.if_running}`",
                        f"`{can.on_unknown}`",
                        "yes" if can.cancel == "confirmed" else "no",
                        str(can.batch_size),
                        f"{can.poll_floor_s:g} s",
                        "-" if can.sends_nothing else format_duration(can.settle_window_s),
                        "yes" if can.resume else "no",
                        can.maturity,
                    )
                )
    head = (
        "Operation", "Class", "`delivery`", "`if_running`", "`on_unknown`", "Cancel", "Runs a look",
        "Looks at most every", "Settle window", "Resume", "Tested on",
    )  # fmt: skip
    return table(head, rows)


def _legend() -> str:
    about = attribute_lines("conductor.core.vendor", "Capabilities")
    rows = [
        ("Class", about["correlation"]),
        *((f"`{word}`", says) for word, says in member_lines("conductor.core.vendor", Correlation.__name__).items()),
        ("sends nothing", about["sends_nothing"]),
        ("`delivery`", about["delivery"] + " `must be said`: a pipeline that leaves it out is an error."),
        ("`if_running`", about["if_running"]),
        ("`on_unknown`", about["on_unknown"]),
        ("Cancel", about["cancel"]),
        ("Runs a look", about["batch_size"]),
        ("Looks at most every", about["poll_floor_s"]),
        ("Settle window", about["settle_window_s"]),
        ("Resume", about["resume"]),
        ("Tested on", about["maturity"]),
    ]
    words = [(f"`{word}`", says) for word, says in member_lines("conductor.core.vendor", Delivery.__name__).items()]
    return "\n".join(
        ["## What the columns mean\n", table(("Column", "Meaning"), rows), table(("`delivery`", "Meaning"), words)]
    )


def _section(plugin: Plugin) -> str:
    needed = any(field.is_required() for field in plugin.connection.model_fields.values())
    connection = plugin.connection.model_fields
    says = "A connection is needed." if needed else "A connection is optional."
    if plugin.kind == "sql":
        says = "A connection is needed, with exactly one of the databases."
    if not connection:
        says = "It takes no connection."
    title = f"{plugin.title} (`{plugin.kind}`)"
    parts = [
        f"## {title}\n",
        f"{plugin.summary} Set-up, permissions and limits are in its [README]({_readme(plugin.kind)}).\n",
        f"### Connection of `{plugin.kind}`\n",
        f"{says}\n",
        fields_table(plugin.connection, heading=lambda name: f"{plugin.kind}: {name}"),
        model_sections(
            models_below(plugin.connection), level=4, heading=lambda name: f"{plugin.kind}: {name}"
        ),
    ]  # fmt: skip
    return "\n".join(
        part for part in [*parts, *(_operation(plugin, one) for _, one in sorted(plugin.operations.items()))] if part
    )


def _readme(kind: str) -> str:
    return f"../../integrations/{kind}/README.md"


def _operation(plugin: Plugin, operation: Operation) -> str:
    uses = f"{plugin.kind}.{operation.name}"

    def heading(name: str) -> str:
        return f"{uses}: {name}"

    nested = models_below(operation.settings)
    outputs = [model for model in models_below(operation.outputs) if model not in nested]
    parts = [
        f"### {uses}\n",
        f"{operation.summary}\n",
        f"**You may rely on:** {cell(operation.guarantee)}\n",
        f"Settings (`with`). {says(operation.settings)}".rstrip() + "\n",
        fields_table(operation.settings, heading=heading) or "It takes no settings.\n",
        model_sections(nested, level=4, heading=heading),
        f"Outputs (`nodes.<id>.outputs`). {says(operation.outputs)}".rstrip() + "\n",
        fields_table(operation.outputs, heading=heading) or "It gives none.\n",
        model_sections(outputs, level=4, heading=heading),
    ]
    return "\n".join(part for part in parts if part)
