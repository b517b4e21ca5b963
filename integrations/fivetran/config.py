"""What a user writes for Fivetran: the connection, the node's `with`, and the outputs. Validation only, no I/O."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, SecretStr

from conductor.sdk import Settings

__all__ = ["FivetranConnection", "SyncOutputs", "SyncSettings"]


class FivetranConnection(Settings):
    """One Fivetran account, as one API key sees it."""

    api_key: SecretStr = Field(description="The API key. A system key outlives the people who make it.")
    api_secret: SecretStr = Field(description="The secret that belongs to the API key.")
    base_url: str = Field(
        default="https://api.fivetran.com",
        pattern=r"^https?://[^\s]+$",
        description="Where the API answers. Change it only for a proxy or a test server.",
    )
    requests_per_hour: int = Field(
        default=5000,
        ge=60,
        description="Never send more requests than this in an hour. Paid accounts may send 20000, trials 500.",
    )


class SyncSettings(Settings):
    """The `with` of `fivetran.sync`."""

    connection_id: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,128}$",
        description="The id of the Fivetran connection (formerly: connector), as in its dashboard address.",
    )
    force: bool = Field(
        default=False,
        description=(
            "Stop a sync that is already running and begin anew. This throws away the work of that sync, "
            "a historical load of many hours included. Off, a running sync is left alone."
        ),
    )
    unpause: bool = Field(
        default=False,
        description=(
            "Resume a paused connection before the sync; it stays resumed. Off, a paused connection is an error."
        ),
    )
    start_limit_s: float = Field(
        default=3600.0,
        ge=60.0,
        description=(
            "How long, in seconds, Fivetran may show neither a sync nor a result after it accepted the trigger. "
            "After that the attempt ends as vanished."
        ),
    )


class SyncOutputs(Settings):
    """What downstream nodes may use of a sync that succeeded."""

    connection_id: str = Field(description="The connection that was synced.")
    schema_name: str = Field(alias="schema", description="The destination schema, or its prefix for database sources.")
    succeeded_at: datetime = Field(description="When the sync succeeded (UTC).")
    started_at: datetime | None = Field(
        default=None, description="When the sync began (UTC); null where the account has no sync history."
    )
