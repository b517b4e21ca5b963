"""One command's way to the project, the database and the service; each is opened when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from conductor.cli.given import Given
from conductor.cli.say import Say

if TYPE_CHECKING:
    from conductor.bootstrap import Workspace
    from conductor.config import Settings
    from conductor.service.actions import Actions
    from conductor.service.client import ControlClient
    from conductor.service.reading import Reader

__all__ = ["Session", "session_of"]


class Session:
    """What a command works with."""

    def __init__(self, given: Given) -> None:
        self.given = given

    @cached_property
    def early(self) -> Settings:
        """The settings as far as they are known without reading the project; light."""
        from conductor.config import environment, read_settings

        return read_settings(flags=self.given.flags(), variables=environment(), file={}, cwd=Path.cwd())

    @cached_property
    def say(self) -> Say:
        """Where the words go."""
        return Say(is_json=self.given.is_json, color=self.early.text("color"), verbosity=self.given.verbosity)

    @cached_property
    def workspace(self) -> Workspace:
        """The project; it may have errors.

        Raises:
            NotFoundError: There is none.
        """
        from conductor.bootstrap import open_project
        from conductor.config import environment
        from conductor.core.errors import NotFoundError

        root = self.early.project
        if not (root / "conductor.yml").is_file():
            raise NotFoundError(
                f"there is no project in {root}: conductor.yml is missing; make one with `conductor init`, or "
                "say where it is with --project"
            )
        return open_project(flags=self.given.flags(), variables=environment(), cwd=Path.cwd())

    @cached_property
    def service(self) -> ControlClient | None:
        """The service that runs this project on this machine; None for none."""
        from conductor.service.client import find_service

        return find_service(self.workspace.settings.state_dir)

    @property
    def is_served(self) -> bool:
        """Something follows the project's database."""
        from conductor.bootstrap import is_written

        return self.service is not None or is_written(self.workspace)

    @property
    def stopped(self) -> dict[str, str]:
        """The connections that the service has stopped, and why; empty when none runs."""
        if self.service is None:
            return {}
        closed = self.service.status().get("closed")
        return {str(name): str(why) for name, why in closed.items()} if isinstance(closed, dict) else {}

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Questions to the database, while the block runs."""
        from conductor.bootstrap import build_reader, open_reads

        store = open_reads(self.workspace)
        try:
            yield build_reader(self.workspace, store)
        finally:
            store.close()

    @contextmanager
    def actions(self) -> Iterator[Actions]:
        """Who carries out what is asked: the service, or this process straight on the database.

        Raises:
            ConflictError: Neither is possible; says what to do.
        """
        from conductor.bootstrap import build_store_actions, is_local, open_store
        from conductor.core.errors import ConflictError

        if self.service is not None:
            yield self.service
            return
        if not is_local(self.workspace):
            raise ConflictError(
                "this needs a running service, which is not found on this machine: with PostgreSQL nobody else may "
                "change runs; start `conductor serve`, or run this where it runs"
            )
        store = open_store(self.workspace, is_read_only=False)
        try:
            yield build_store_actions(self.workspace, store)
        finally:
            store.close()


def session_of(context: typer.Context) -> Session:
    """The session of the command that runs."""
    found = context.find_object(Session)
    assert found is not None
    return found
