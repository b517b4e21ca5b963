"""`connections.yml` → connections without their secrets; the secrets join when a connection is resolved. No network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from conductor.core.vendor import Json
from conductor.loader.diagnostics import Report
from conductor.loader.literals import check_secrets
from conductor.loader.names import is_name
from conductor.loader.problems import report_problems
from conductor.loader.projectfile import ConnectionDefaults, ConnectionHead
from conductor.loader.source import Where
from conductor.loader.templates import strings_in
from conductor.loader.written import Written, check_references, written_at
from conductor.sdk.plugin import Plugin

__all__ = ["Connection", "read_connections"]

_HEAD = frozenset(ConnectionHead.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One entry of connections.yml. Holds references, never secrets.

    Attributes:
        name: As nodes call it.
        type: The integration's kind; empty where it could not be read.
        max_parallel: Runs at once; None for no limit of ours.
        written: Its fields, without `type` and `max_parallel`.
    """

    name: str
    type: str
    max_parallel: int | None = None
    written: Written = field(default_factory=Written)


def read_connections(
    data: Json,
    *,
    report: Report,
    plugins: Mapping[str, Plugin],
    defaults: ConnectionDefaults,
    environment: Mapping[str, str],
) -> dict[str, Connection]:
    """Check every entry. All are returned, so that nodes that name a wrong one are not wrong as well."""
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        report.add("CND004", "expected connections by name", help_text="write `name: {type: ...}`")
        return {}
    return {
        name: _read_one(name, body, report=report, plugins=plugins, defaults=defaults, environment=environment)
        for name, body in data.items()
    }


def _read_one(
    name: str,
    body: Json,
    *,
    report: Report,
    plugins: Mapping[str, Plugin],
    defaults: ConnectionDefaults,
    environment: Mapping[str, str],
) -> Connection:
    if not is_name(name):
        message = f"`{name[:80]}` is not a name: use a to z, 0 to 9, `_` and `-`, at most 63"
        report.add("CND010", message, (name,), on_key=True)
    check_references(report, body, (name,))
    written = written_at(report.source, body if isinstance(body, Mapping) else {}, (name,))
    filled, unknown = written.samples(environment)
    try:
        head = ConnectionHead.model_validate(filled if isinstance(body, Mapping) else body)
    except ValidationError as error:
        report_problems(report, error, body, model=ConnectionHead, base=(name,))
        check_secrets(report, body, (name,), code="CND041")
        return Connection(name=name, type="")
    assert isinstance(filled, Mapping)
    assert isinstance(body, Mapping)
    plugin = plugins.get(head.type)
    if plugin is None:
        help_text = report.suggest(head.type, plugins) or f"installed: {', '.join(sorted(plugins)) or 'none'}"
        report.add("CND030", f"no integration `{head.type}` is installed", (name, "type"), help_text=help_text)
        check_secrets(report, body, (name,), code="CND041")
        return Connection(name=name, type="")
    if name in plugins and name != head.type:
        message = f"`{name}` is the name of another integration"
        report.add("CND010", message, (name,), on_key=True, help_text="rename the connection")
    settings = {key: value for key, value in body.items() if key not in _HEAD}
    _check_literals(report, plugin.connection, settings, (name,))
    try:
        plugin.connection.model_validate({key: value for key, value in filled.items() if key not in _HEAD})
    except ValidationError as error:
        report_problems(report, error, filled, model=plugin.connection, base=(name,), ignore=unknown)
    max_parallel = head.max_parallel if head.max_parallel is not None else defaults.max_parallel
    return Connection(
        name=name, type=head.type, max_parallel=max_parallel, written=written_at(report.source, settings, (name,))
    )


def _check_literals(report: Report, model: type[BaseModel], settings: Json, base: Where) -> None:
    """Fields that hold secrets take references only; the others must not look like secrets."""
    schema = model.model_json_schema(mode="validation")
    secret_places = set()
    for where, text in strings_in(settings):
        if not _is_secret(schema, where):
            continue
        secret_places.add(where)
        if "${{" not in text:
            report.conceal(text)
            help_text = f"write `${{{{ secret('{'_'.join(map(str, base + where))}') }}}}`, and replace it at the vendor"
            report.add(
                "CND041", f"`{where[-1]}` is a secret and stands here in full", base + where, help_text=help_text
            )
    others = {key: value for key, value in settings.items() if (key,) not in secret_places} if isinstance(
        settings, Mapping) else {}  # fmt: skip
    check_secrets(report, others, base, code="CND041")


def _is_secret(schema: Mapping[str, object], where: Where) -> bool:
    """The schema says `format: password` at this place, as pydantic writes for SecretStr."""
    definitions = schema.get("$defs", {})
    here: list[object] = [schema]
    for step in (None, *where):
        options: list[object] = []
        for item in here:
            options += _children(item, step) if step is not None else [item]
        here = []
        while options:
            item = options.pop()
            if not isinstance(item, Mapping):
                continue
            reference = item.get("$ref")
            if isinstance(reference, str) and isinstance(definitions, Mapping):
                options.append(definitions.get(reference.rpartition("/")[2]))
            for union in ("anyOf", "oneOf", "allOf"):
                options += item.get(union, [])
            here.append(item)
    return any(isinstance(item, Mapping) and item.get("format") == "password" for item in here)


def _children(item: object, step: str | int) -> list[object]:
    if not isinstance(item, Mapping):
        return []
    if isinstance(step, int):
        return [item.get("items")]
    properties = item.get("properties", {})
    return [properties[step]] if step in properties else [item.get("additionalProperties")]
