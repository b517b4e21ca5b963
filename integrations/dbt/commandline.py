"""The dbt command lines: settings → arguments. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conductor.core.keys import digest
from conductor.core.vendor import Json

__all__ = ["COMMANDS", "Places", "arguments", "identity", "retry_arguments"]

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "core_build": ("build",),
    "core_run": ("run",),
    "core_test": ("test",),
    "core_seed": ("seed",),
    "core_snapshot": ("snapshot",),
    "core_source_freshness": ("source", "freshness"),
}
"""Operation → dbt's command. Source: https://docs.getdbt.com/reference/dbt-commands"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where one attempt reads and writes; its own target and log folders keep concurrent runs apart.

    Attributes:
        project: The dbt project.
        profiles: Where profiles.yml is; None lets dbt look.
        target: The profile's target; None for its default.
        target_path: The attempt's artifacts.
        log_path: The attempt's debug log.
    """

    project: Path
    profiles: Path | None
    target: str | None
    target_path: Path
    log_path: Path


def arguments(operation: str, settings: Mapping[str, Json], places: Places) -> tuple[str, ...]:
    """The arguments of a full run, without the executable."""
    found = [*COMMANDS[operation]]
    for name in ("select", "exclude"):
        values = settings.get(name)
        if isinstance(values, list) and values:
            found += [f"--{name}", *(str(value) for value in values)]
    if settings.get("selector"):
        found += ["--selector", str(settings["selector"])]
    for name in ("full_refresh", "store_failures", "fail_fast"):
        if settings.get(name) is True:
            found.append(f"--{name.replace('_', '-')}")
    return (*found, *_shared(settings, places))


def retry_arguments(settings: Mapping[str, Json], places: Places, *, state: Path) -> tuple[str, ...]:
    """The arguments of `dbt retry` from the run_results.json in `state`; selection and flags come from that file.

    `--warn-error` and the places are the flags that retry does not take over.
    Source: https://docs.getdbt.com/reference/commands/retry and IGNORE_PARENT_FLAGS in dbt/task/retry.py.
    """
    return ("retry", "--state", str(state), *_shared(settings, places))


def identity(operation: str, settings: Mapping[str, Json], places: Places) -> str:
    """Equal for two attempts that ask dbt for the same work, however many threads do it."""
    asked = {name: value for name, value in settings.items() if name not in {"resume", "threads"}}
    return digest([operation, asked, str(places.project), str(places.profiles), places.target])[:32]


def _shared(settings: Mapping[str, Json], places: Places) -> list[str]:
    found = ["--project-dir", str(places.project)]
    if places.profiles is not None:
        found += ["--profiles-dir", str(places.profiles)]
    if settings.get("profile"):
        found += ["--profile", str(settings["profile"])]
    if places.target:
        found += ["--target", places.target]
    if settings.get("vars"):
        found += ["--vars", json.dumps(settings["vars"], sort_keys=True)]
    if settings.get("threads"):
        found += ["--threads", str(settings["threads"])]
    if settings.get("warn_error") is True:
        found.append("--warn-error")
    found += ["--target-path", str(places.target_path), "--log-path", str(places.log_path)]
    return [*found, "--log-format", "json", "--no-use-colors", "--write-json"]
