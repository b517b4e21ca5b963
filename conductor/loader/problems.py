"""Turns pydantic's errors into diagnostics in our words. Never shows an input value: it may be a secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ValidationError

from conductor.loader.diagnostics import Report, did_you_mean
from conductor.loader.source import Where
from conductor.loader.synonyms import LATER, NODE_WORDS, PIPELINE_WORDS, TYPE_WORDS, normal

__all__ = ["field_names", "lookup", "plain_message", "report_problems"]

_SAYS = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected a mapping of names to values",
    "model_type": "expected a mapping of fields",
    "model_attributes_type": "expected a mapping of fields",
}
_KINDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping",
    type(None): "nothing",
}  # fmt: skip


def field_names(model: type[BaseModel]) -> tuple[str, ...]:
    """The names that users write: aliases where there are any."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def lookup(data: object, where: Where) -> object:
    """The value at `where`; None where there is none."""
    for step in where:
        if not _has(data, step):
            return None
        data = data[step]  # type: ignore[index]
    return data


def report_problems(
    report: Report,
    error: ValidationError,
    data: object,
    *,
    model: type[BaseModel],
    base: Where = (),
    ignore: Iterable[Where] = (),
) -> None:
    """Add a diagnostic for each error.

    Args:
        report: Where they go.
        error: What pydantic said.
        data: What was validated; tells what stands at a place, is never shown.
        model: What it was validated by; gives the names for suggestions.
        base: Where `data` stands in the source.
        ignore: Places, relative to `data`, whose value is not known yet; errors at or below them are not reported.
    """
    skip = frozenset(ignore)
    for item in error.errors(include_url=False, include_input=False, include_context=True):
        where = _real(item["loc"], data)
        if skip and any(where[:length] in skip for length in range(1, len(where) + 1)):
            continue
        kind, context = item["type"], item.get("ctx", {})
        if kind == "extra_forbidden":
            _unknown_field(report, base + where, _siblings(model, where))
        elif kind == "missing":
            name = str(item["loc"][-1])
            _missing(report, base + where, name)
        elif kind.startswith("CND"):
            on_key = bool(item["loc"]) and item["loc"][-1] == "[key]"
            report.add(kind, item["msg"], base + where, on_key=on_key, help_text=str(context.get("help", "")))
        else:
            name = str(where[-1]) if where else "the file"
            help_text = _word_help(lookup(data, where), str(context.get("expected", "")))
            found = plain_message(kind, item["msg"], lookup(data, where))
            report.add("CND004", f"`{name}`: {found}", base + where, help_text=help_text)


def plain_message(kind: str, message: str, value: object) -> str:
    """Pydantic's message in a few plain words."""
    if kind in _SAYS:
        found = _KINDS.get(type(value), "something else")
        return f"{_SAYS[kind]}, found {found}"
    if kind in {"enum", "literal_error"}:
        return "expected " + message.removeprefix("Input should be ").replace("'", "`")
    if kind in {"value_error", "assertion_error"}:
        return message.partition(", ")[2]
    return message[:1].lower() + message[1:]


def _real(loc: tuple[int | str, ...], data: object) -> Where:
    """The part of pydantic's `loc` that exists in `data`: without markers of keys, union branches and shorthands."""
    for depth, step in enumerate(loc):
        if not _has(data, step):
            return loc[:depth]
        data = data[step]  # type: ignore[index]
    return loc


def _has(data: object, step: int | str) -> bool:
    if isinstance(data, list):
        return isinstance(step, int) and step < len(data)
    return isinstance(data, Mapping) and step in data


def _missing(report: Report, where: Where, name: str) -> None:
    owner = f"`{where[-1]}`" if where else "the file"
    report.add("CND003", f"{owner} needs the field `{name}`", where, on_key=True, help_text=f"add `{name}:`")


def _unknown_field(report: Report, where: Where, siblings: tuple[str, ...]) -> None:
    name = str(where[-1])
    words: Mapping[str, str] = {}
    if (where[0], len(where)) in {("nodes", 3), ("defaults", 2)}:
        words = NODE_WORDS
    elif len(where) == 1 and "nodes" in siblings:
        words = {**NODE_WORDS, **PIPELINE_WORDS}
    if words and name in LATER:
        report.add("CND008", f"`{name}` is not supported in this version", where, on_key=True, help_text="remove it")
        return
    foreign = words.get(normal(name), "")
    help_text = foreign or report.suggest(name, siblings) or f"accepted here: {', '.join(siblings)}"
    report.add("CND002", f"unknown field `{name}`", where, on_key=True, help_text=help_text)


def _siblings(model: type[BaseModel], where: Where) -> tuple[str, ...]:
    """The fields accepted beside the last step of `where`."""
    found: type[BaseModel] | None = model
    for step in where[:-1]:
        if found is None:
            return ()
        field = next((field for name, field in found.model_fields.items() if step in {name, field.alias}), None)
        if field is not None:
            found = _model_in(field.annotation)
    return field_names(found) if found is not None else ()


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in reversed(getattr(annotation, "__args__", ())):
        found = _model_in(part)
        if found is not None:
            return found
    return None


def _word_help(value: object, expected: str) -> str:
    if not isinstance(value, str) or not expected:
        return ""
    words = [word for word in expected.replace("'", " ").replace(",", " ").split() if word != "or"]
    ours = TYPE_WORDS.get(normal(value), "")
    return f"use `{ours}`" if ours in words else did_you_mean(value, words)
