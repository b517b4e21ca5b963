"""What a user writes for a SQL connection and a `sql.gate` node, checked before anything is read. No I/O."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from conductor.core.vendor import Json
from conductor.sdk import Settings
from integrations.sql.statement import single_select

__all__ = ["DIALECTS", "Assertion", "Connection", "GateSettings", "Outputs", "Severity"]

DIALECTS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "duckdb": "duckdb",
    "postgresql": "postgresql",
    "postgresql+psycopg": "postgresql",
}
"""Drivers that can be opened read-only, and the database that each one speaks to."""

Severity = Literal["fail", "warn"]
Select = Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(single_select)]
Bound = int | float | str


class Connection(Settings):
    """One database."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    duckdb: str | None = Field(default=None, description="A DuckDB file; a relative one lies in the project's folder.")
    sqlite: str | None = Field(default=None, description="A SQLite file; a relative one lies in the project's folder.")
    url: SecretStr | None = Field(
        default=None,
        description="A SQLAlchemy URL, as a secret: postgresql://user:password@host/name, or that of a file.",
    )
    connect_timeout_s: int = Field(default=10, ge=2, le=120, description="Limit for connecting, in seconds.")
    max_queries: int = Field(default=4, ge=1, le=32, description="How many gates may query at once.")
    external_files: bool = Field(
        default=False, description="DuckDB only: let queries read files and addresses outside the database."
    )

    @field_validator("url")
    @classmethod
    def _can_be_read_only(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            raise ValueError("this is not a database URL: write sqlite:///, duckdb:/// or postgresql://") from None
        dialect = DIALECTS.get(url.drivername)
        if dialect is None:
            raise ValueError(f"{url.drivername!r} cannot be opened read-only here: use {', '.join(DIALECTS)}")
        if dialect != "postgresql":
            if not url.database or url.database.startswith((":", "file:", "md:", "motherduck:")):
                raise ValueError(f"a {dialect} URL must name a file, such as {dialect}:///warehouse.db")
            if url.query:
                raise ValueError(f"a {dialect} URL takes no options here: the file is opened read-only")
        return value

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if sum(one is not None for one in (self.duckdb, self.sqlite, self.url)) != 1:
            raise ValueError("give exactly one of `duckdb`, `sqlite` and `url`")
        return self

    @property
    def address(self) -> str:
        """The database's SQLAlchemy URL; may hold a password."""
        if self.url is not None:
            return self.url.get_secret_value()
        return f"duckdb:///{self.duckdb}" if self.duckdb is not None else f"sqlite:///{self.sqlite}"


class Assertion(Settings):
    """One value and what it must be."""

    sql: Select = Field(description="One SELECT that returns one row with one column.")
    equals: bool | Bound | None = Field(default=None, description="The value must be this.")
    at_least: Bound | None = Field(default=None, description="The value must be this or more; times in ISO 8601.")
    at_most: Bound | None = Field(default=None, description="The value must be this or less; times in ISO 8601.")
    between: tuple[Bound, Bound] | None = Field(
        default=None, description="The value must be in this range, ends included."
    )

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        given = [self.equals, self.at_least, self.at_most, self.between]
        if sum(one is not None for one in given) != 1:
            raise ValueError("assert: give exactly one of `equals`, `at_least`, `at_most` and `between`")
        return self


class GateSettings(Settings):
    """A question to the data. Give `sql` (offending rows; none must come back) or `assert` (one value)."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, populate_by_name=True)

    sql: Select | None = Field(
        default=None, description="One SELECT of offending rows; the gate passes when there are none."
    )
    assertion: Assertion | None = Field(default=None, alias="assert", description="One value and what it must be.")
    message: str | None = Field(
        default=None, max_length=500, description="What it means, for people, when the gate does not pass."
    )
    max_rows: int = Field(default=20, ge=0, le=200, description="How many offending rows are shown and kept.")
    severity: Severity = Field(
        default="fail", description="What a gate that does not pass does: fail the node, or warn."
    )
    timeout_s: float = Field(default=300, gt=0, le=86_400, description="Limit for the query, in seconds.")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.sql is None) == (self.assertion is None):
            raise ValueError("give exactly one of `sql` and `assert`")
        return self

    @property
    def query(self) -> str:
        """The statement to run."""
        return self.assertion.sql if self.assertion is not None else (self.sql or "")


class Outputs(Settings):
    """What downstream nodes may use."""

    row_count: int = Field(default=0, ge=0, description="How many rows came back, counted up to 100,000.")
    value: Json = Field(default=None, description="The asserted value; none for a gate on rows.")
    rows: list[dict[str, Json]] = Field(default=[], description="The first rows that came back, at most max_rows.")
