"""Settings as they were written, with references in place of secrets, and how they are filled in at call time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from conductor.core.errors import DefinitionError
from conductor.core.vendor import Json
from conductor.loader.diagnostics import Diagnostic, Report, Severity
from conductor.loader.problems import lookup, plain_message
from conductor.loader.references import Reference, find_references, references_in, substitute
from conductor.loader.secrets import SecretSource
from conductor.loader.source import Place, Source, Where
from conductor.loader.templates import strings_in
from conductor.sdk.redact import MASK

__all__ = ["Written", "check_references", "written_at"]

_SAMPLE = "sample-value"
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Settings that may hold references; never a secret.

    Attributes:
        data: As written.
        path: The file.
        places: Where each text with references stands.
    """

    data: Mapping[str, Json] = field(default_factory=dict)
    path: str = ""
    places: Mapping[Where, Place] = field(default_factory=dict, repr=False, compare=False)

    def missing(
        self, *, secrets: SecretSource, environment: Mapping[str, str], severity: Severity
    ) -> tuple[Diagnostic, ...]:
        """A diagnostic for each reference that nothing has a value for. Reads whether there is one, keeps none."""
        found = []
        for where, references in references_in(self.data).items():
            place = self.places.get(where, Place())
            for reference in references:
                problem = _problem(reference, secrets, environment)
                if problem is not None:
                    found.append(
                        Diagnostic(
                            code="CND042",
                            severity=severity,
                            message=problem[0],
                            path=self.path,
                            line=place.line,
                            column=place.column,
                            length=place.length,
                            source_line=place.source_line,
                            help=problem[1],
                        )
                    )
        return tuple(found)

    def samples(self, environment: Mapping[str, str]) -> tuple[Json, list[Where]]:
        """The data with variables filled in and samples for secrets; and the places whose value is not known yet."""
        unknown = [
            where
            for where, references in references_in(self.data).items()
            if any(_is_open(reference, environment) for reference in references)
        ]

        def look_up(reference: Reference) -> str:
            return _SAMPLE if _is_open(reference, environment) else _variable(reference, environment)

        return substitute(self.data, look_up), unknown

    def resolve(
        self, model: type[_Model], *, what: str, secrets: SecretSource, environment: Mapping[str, str]
    ) -> tuple[_Model, tuple[str, ...]]:
        """The data with its secrets as `model`, and the secrets' values for the redactor. Read now, kept nowhere.

        Raises:
            DefinitionError: A secret or variable is not set, or the whole does not fit; names it, shows no value.
        """
        absent = self.missing(secrets=secrets, environment=environment, severity=Severity.ERROR)
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            message = f"{what} cannot be used: {absent[0].message}{more}; {absent[0].help}"
            raise DefinitionError(message, diagnostics=absent)
        values: list[str] = []

        def look_up(reference: Reference) -> str:
            if reference.kind == "env_var":
                return _variable(reference, environment)
            values.append(secrets.get(reference.name) or "")
            return values[-1]

        data = substitute(self.data, look_up)
        try:
            return model.model_validate(data), tuple(values)
        except ValidationError as error:
            raise DefinitionError(f"{what} cannot be used: {_says(error, data, values)}; correct {self.path}") from None


def written_at(source: Source, data: Mapping[str, Json], base: Where = ()) -> Written:
    """`data` with the places of its references, if it stands at `base` in `source`."""
    places = {where: source.place(base + where) for where in references_in(data)}
    return Written(data=data, path=source.path, places=places)


def check_references(report: Report, data: Json, base: Where = ()) -> None:
    """Every `${{` in `data` is one of the accepted forms."""
    for where, text in strings_in(data, base):
        if "${{" in text:
            try:
                find_references(text)
            except ValueError as error:
                report.add("CND043", str(error), where, help_text="a computed value belongs in the pipeline")


def _problem(reference: Reference, secrets: SecretSource, environment: Mapping[str, str]) -> tuple[str, str] | None:
    if reference.kind == "secret":
        if secrets.get(reference.name) is not None:
            return None
        return f"secret `{reference.name}` is not set", f"set {secrets.describe(reference.name)}"
    if reference.default is not None or reference.name in environment:
        return None
    return f"variable `{reference.name}` is not set", f"set {reference.name}, or give a default"


def _is_open(reference: Reference, environment: Mapping[str, str]) -> bool:
    return reference.kind == "secret" or (reference.default is None and reference.name not in environment)


def _variable(reference: Reference, environment: Mapping[str, str]) -> str:
    return environment.get(reference.name, reference.default or "")


def _says(error: ValidationError, data: Json, secrets: list[str]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    says = plain_message(first["type"], first["msg"], lookup(data, first["loc"]))
    for value in sorted(filter(None, secrets), key=len, reverse=True):
        says = says.replace(value, MASK)
    return f"`{'.'.join(map(str, first['loc']))}`: {says}" if first["loc"] else says
