"""What a user writes for a dbt connection and the `dbt.core_*` nodes, and what the nodes give to others. No I/O."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, SecretStr

from conductor.sdk import NoConnection, Settings

__all__ = [
    "BuildSettings",
    "Connection",
    "FreshnessSettings",
    "NodeFailure",
    "NodeOutcome",
    "Outputs",
    "RunSettings",
    "SeedSettings",
    "SnapshotSettings",
    "TestSettings",
]

_RESERVED = ("CONDUCTOR_", "DBT_ENV_CUSTOM_ENV_CONDUCTOR_")


def _not_reserved(name: str) -> str:
    if name.startswith(_RESERVED):
        raise ValueError(f"{name} is set by Conductor itself; choose another name")
    return name


def _no_option(value: str) -> str:
    if not value.strip() or value.lstrip().startswith("-"):
        raise ValueError(f"{value!r} is empty or begins with a dash, which dbt would read as an option")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_not_reserved)]
Plain = Annotated[str, AfterValidator(_no_option)]
Selection = Annotated[list[Plain], BeforeValidator(_as_list)]


class Connection(NoConnection):
    """Optional: which dbt, and what its profiles.yml reads by `env_var()`."""

    executable: str | None = Field(
        default=None, description="The dbt to run; without it the one installed beside Conductor, else that on PATH."
    )
    project_dir: str = Field(default=".", description="The dbt project; relative to Conductor's project folder.")
    profiles_dir: str | None = Field(
        default=None, description="Where profiles.yml is; without it dbt looks in the project and in ~/.dbt."
    )
    target: str | None = Field(default=None, description="The profile's target; without it the profile's default.")
    env: dict[EnvName, str] = Field(default_factory=dict, description="Variables as plain text; no secrets.")
    secret_env: dict[EnvName, SecretStr] = Field(
        default_factory=dict,
        description="Secret variables, such as DBT_ENV_SECRET_PASSWORD for profiles.yml. They reach dbt and no file.",
    )
    pass_env: list[EnvName] = Field(
        default_factory=list, description="Variables of Conductor's own environment that dbt gets too."
    )
    interrupt_grace_s: float = Field(
        default=30,
        ge=0,
        le=600,
        description="On a cancel: how long dbt may take to cancel its queries after SIGINT, in seconds.",
    )
    log_cap_mib: int = Field(default=64, ge=1, le=4096, description="Keep no more of dbt's output per attempt, in MiB.")
    keep_days: float = Field(default=14, ge=8, description="Remove logs and artifacts of older attempts, in days.")


class _Common(Settings):
    project_dir: str | None = Field(default=None, description="The dbt project; else the connection's.")
    profiles_dir: str | None = Field(default=None, description="Where profiles.yml is; else the connection's.")
    profile: Plain | None = Field(default=None, description="Another profile than the one that dbt_project.yml names.")
    target: Plain | None = Field(default=None, description="The profile's target; else the connection's.")
    select: Selection = Field(default_factory=list, description="What to select: one text or a list (a union).")
    exclude: Selection = Field(default_factory=list, description="What to leave out.")
    selector: Plain | None = Field(default=None, description="A named selector of selectors.yml.")
    vars: dict[str, JsonValue] = Field(default_factory=dict, description="Project variables.")
    threads: int | None = Field(default=None, ge=1, le=256, description="How many nodes at once; else the profile's.")
    warn_error: bool = Field(default=False, description="Treat dbt's warnings as errors.")


class _Resumable(_Common):
    fail_fast: bool = Field(default=False, description="Stop at the first failing node.")
    resume: Literal["auto", "never"] = Field(
        default="auto",
        description="On a retry: `auto` runs only what failed or was skipped, by `dbt retry`, where that is safe; "
        "`never` runs everything again.",
    )


class BuildSettings(_Resumable):
    """`dbt build`."""

    full_refresh: bool = Field(default=False, description="Rebuild incremental models and seeds from nothing.")
    store_failures: bool = Field(default=False, description="Keep the failing rows of tests in the warehouse.")


class RunSettings(_Resumable):
    """`dbt run`."""

    full_refresh: bool = Field(default=False, description="Rebuild incremental models from nothing.")


class SeedSettings(_Resumable):
    """`dbt seed`."""

    full_refresh: bool = Field(default=False, description="Drop and make the tables again.")


class TestSettings(_Resumable):
    """`dbt test`."""

    __test__ = False  # not a test case of pytest

    store_failures: bool = Field(default=False, description="Keep the failing rows of tests in the warehouse.")


class SnapshotSettings(_Resumable):
    """`dbt snapshot`."""


class FreshnessSettings(_Common):
    """`dbt source freshness`."""


class NodeOutcome(Settings):
    """One node of the dbt project, as it ended."""

    unique_id: str = Field(description="dbt's id, such as model.shop.orders.")
    status: str = Field(description="dbt's word.")
    execution_s: float | None = Field(default=None, description="How long it took, in seconds.")
    rows_affected: int | None = Field(default=None, description="Rows written, where the adapter says.")
    relation: str | None = Field(default=None, description="The table or view, quoted as the adapter does.")


class NodeFailure(Settings):
    """One node that did not go well."""

    unique_id: str = Field(description="dbt's id.")
    status: str = Field(description="dbt's word.")
    message: str = Field(description="dbt's message.")
    failures: int | None = Field(default=None, description="Failing rows of a test.")
    compiled_path: str | None = Field(default=None, description="The compiled SQL, below the attempt's target folder.")


class Outputs(Settings):
    """What a dbt command gives to others."""

    exit_code: int | None = Field(default=None, description="0 fine, 1 a node failed, 2 dbt could not run.")
    invocation_id: str | None = Field(default=None, description="dbt's id of the invocation.")
    dbt_version: str | None = Field(default=None, description="The version that ran.")
    elapsed_s: float | None = Field(default=None, description="dbt's own measure, in seconds.")
    total: int = Field(default=0, description="Nodes in the results.")
    succeeded: int = Field(default=0, description="Nodes that went well.")
    warned: int = Field(default=0, description="Tests or sources with a warning.")
    failed: int = Field(default=0, description="Nodes that failed, tests included.")
    skipped: int = Field(default=0, description="Nodes that were not run because of others.")
    counts: dict[str, int] = Field(default_factory=dict, description="Nodes by dbt's own status word.")
    failures: list[NodeFailure] = Field(default_factory=list, description="What failed or warned, at most 50.")
    nodes: list[NodeOutcome] = Field(default_factory=list, description="The nodes, at most 200, slowest first.")
    resumed_from: str | None = Field(
        default=None, description="The attempt that `dbt retry` went on from; only what it re-ran is counted."
    )
