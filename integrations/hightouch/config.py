"""What a user writes for Hightouch: the connection, the node's settings, and the outputs. Checks shape only, no I/O."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, StrictInt, field_validator, model_validator

from conductor.sdk import Settings

__all__ = ["DEFAULT_BASE_URL", "Connection", "SyncOutputs", "SyncSettings"]

DEFAULT_BASE_URL = "https://api.hightouch.com/api/v1"
_MAX_ID_DIGITS = 20


def _as_text(value: int | str) -> str:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_ID_DIGITS or int(text) == 0:
        raise ValueError(f"{text!r} is not the number of a sync; use sync_slug for a slug")
    return str(int(text))


SyncId = Annotated[StrictInt | str, AfterValidator(_as_text)]


class Connection(Settings):
    """One Hightouch workspace. A key belongs to one workspace, so each workspace is a connection of its own."""

    api_key: SecretStr = Field(
        min_length=1, description="The workspace's API key (Settings → API keys); made by a workspace admin."
    )
    base_url: str = Field(
        default=DEFAULT_BASE_URL,
        pattern=r"^https?://\S+$",
        description="The address of the API, version included; change it only for a proxy or a sandbox.",
    )
    workspace: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="The workspace's slug as it stands in the app's address; only for links to runs.",
    )

    @field_validator("base_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")


class SyncSettings(Settings):
    """The `with` of `hightouch.sync`: one sync, by its number or by its slug."""

    sync_id: SyncId | None = Field(
        default=None, description="The sync's number, as in the app's address; exactly one of sync_id and sync_slug."
    )
    sync_slug: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The sync's slug; exactly one of sync_id and sync_slug.",
    )
    full_resync: bool = Field(
        default=False,
        description="Push all rows again instead of the changed ones only; may cost much at the destination.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> SyncSettings:
        if (self.sync_id is None) == (self.sync_slug is None):
            raise ValueError("give exactly one of sync_id and sync_slug")
        return self


class SyncOutputs(Settings):
    """What downstream nodes may use of an ended sync. A number is null where Hightouch did not give it."""

    run_id: str = Field(description="Hightouch's id of the run.")
    sync_id: str = Field(description="Hightouch's number of the sync.")
    query_size: int | None = Field(default=None, description="Rows that the model's query returned.")
    rows_added: int | None = Field(default=None, description="Rows added at the destination.")
    rows_changed: int | None = Field(default=None, description="Rows changed at the destination.")
    rows_removed: int | None = Field(default=None, description="Rows removed at the destination.")
    rows_synced: int | None = Field(default=None, description="Rows added, changed and removed, together.")
    rejected_added: int | None = Field(default=None, description="Rows that could not be added.")
    rejected_changed: int | None = Field(default=None, description="Rows that could not be changed.")
    rejected_removed: int | None = Field(default=None, description="Rows that could not be removed.")
    rows_rejected: int | None = Field(default=None, description="Rows rejected by the destination, together.")
