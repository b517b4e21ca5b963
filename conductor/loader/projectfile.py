"""What `conductor.yml` may hold, and the two fields that every entry of `connections.yml` has. Shape only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from conductor.loader.models import Defaults, FileModel
from conductor.loader.names import Name

__all__ = ["ConnectionDefaults", "ConnectionHead", "ProjectFile", "SecretsPlace", "StorePlace"]


class _Lax(FileModel):
    """Values may come from variables, which are text: `"8080"` is a number here."""

    model_config = ConfigDict(strict=False)


class StorePlace(_Lax):
    """Where state is kept."""

    url: str = Field(
        default="",
        description="A SQLAlchemy address, SQLite or PostgreSQL; a SQLite file in `state_dir` when left out.",
        examples=["${{ env_var('CONDUCTOR_STORE_URL', '') }}"],
    )


class ConnectionDefaults(_Lax):
    """What connections have unless they say otherwise."""

    max_parallel: int | None = Field(default=None, ge=1, le=10_000, description="Runs at once on one connection.")
    default: dict[str, str] = Field(default={}, description="Type → the connection of nodes that name none.")


class SecretsPlace(_Lax):
    """Where secrets are looked for besides the environment."""

    directory: str = Field(default="/run/secrets", description="One file for each secret.")


class ProjectFile(FileModel):
    """The settings of a project."""

    version: Literal[1] = Field(description="The version of this format; always 1.")
    name: Name = Field(description="The project's name.")
    pipelines: list[str] = Field(
        default=["pipelines/**/*.yml", "pipelines/**/*.yaml"],
        min_length=1,
        description="Patterns of pipeline files, relative to this file.",
    )
    environment: str = Field(default="default", description="What expressions see as `env`.")
    defaults: Defaults = Field(
        default=Defaults(), description="What every node of every pipeline has unless it says otherwise."
    )
    pools: dict[Name, Annotated[int, Field(ge=1, le=100_000)]] = Field(
        default={}, description="Named pools and their slots."
    )
    store: StorePlace = Field(default=StorePlace(), description="Where state is kept.")
    state_dir: str = Field(default=".conductor", description="A folder for state that survives restarts.")
    connections: ConnectionDefaults = Field(
        default=ConnectionDefaults(), description="What connections have unless they say otherwise."
    )
    secrets: SecretsPlace = Field(default=SecretsPlace(), description="Where secrets are looked for.")


class ConnectionHead(_Lax):
    """What every connection has; the other fields belong to its type."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(description="The integration's kind, such as `fivetran`.")
    max_parallel: int | None = Field(default=None, ge=1, le=10_000, description="Runs at once on this connection.")
