"""The plan of any pipeline version: the project's own, or an older one compiled anew from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from conductor.core.errors import ConductorError, NotFoundError
from conductor.core.plan import Plan
from conductor.core.vendor import Json

__all__ = ["Plans"]


class Plans:
    """Plans by name and version. `use` replaces the current ones after a reload; old versions are kept compiled."""

    def __init__(
        self,
        *,
        current: Mapping[str, Plan],
        stored: Callable[[str, str], Mapping[str, Json] | None],
        compile_plan: Callable[[Mapping[str, Json]], Plan],
    ) -> None:
        self._current = dict(current)
        self._stored = stored
        self._compile = compile_plan
        self._old: dict[tuple[str, str], Plan] = {}

    @property
    def current(self) -> Mapping[str, Plan]:
        """The project's pipelines by name."""
        return self._current

    def use(self, plans: Mapping[str, Plan]) -> None:
        """These are current from now on."""
        self._current = dict(plans)

    def load(self, pipeline: str, version: str) -> Plan:
        """The plan of a version.

        Raises:
            ConductorError: It was never registered, or no longer compiles (an integration or connection is gone).
        """
        current = self._current.get(pipeline)
        if current is not None and current.version == version:
            return current
        key = (pipeline, version)
        if key not in self._old:
            definition = self._stored(pipeline, version)
            if definition is None:
                raise NotFoundError(
                    f"version {version} of pipeline {pipeline} cannot be loaded: the database does not have it; "
                    "check that this is the right database"
                )
            self._old[key] = self._compile(definition)
        return self._old[key]

    def find(self, pipeline: str, version: str) -> Plan | None:
        """As `load`; None where that raises."""
        try:
            return self.load(pipeline, version)
        except ConductorError:
            return None
