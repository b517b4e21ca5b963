"""Settings of this process and where each one came from: flag > `CONDUCTOR_*` > `conductor.yml` > default.

Besides the loader's secrets, the only file that reads the environment. Reads no file and builds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from conductor.core.errors import DefinitionError

__all__ = ["SETTINGS", "Origin", "Setting", "SettingSpec", "Settings", "environment", "find_project", "read_settings"]

_PROJECT_FILE = "conductor.yml"


class Origin(StrEnum):
    """What won."""

    FLAG = "flag"
    """An option on the command line."""
    ENV = "env"
    """A variable of the environment."""
    FILE = "file"
    """`conductor.yml`."""
    DEFAULT = "default"
    """Nothing said otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec:
    """One setting.

    Attributes:
        name: As `config show` prints it, and as the path in `conductor.yml` where it may stand there.
        env: Variables that set it, the first that is set wins.
        default: When nothing sets it; for `store.url` and `actor` it depends on others.
        summary: For the reference page.
        flag: The option that sets it; empty for none.
        in_file: It may stand in `conductor.yml`.
        choices: Accepted words; empty for any text.
    """

    name: str
    env: tuple[str, ...]
    default: str
    summary: str
    flag: str = ""
    in_file: bool = False
    choices: tuple[str, ...] = ()


SETTINGS: Mapping[str, SettingSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            SettingSpec(
                name="project",
                env=("CONDUCTOR_PROJECT",),
                default="",
                flag="--project",
                summary="The project's folder; without it, the nearest folder upwards that holds conductor.yml.",
            ),
            SettingSpec(
                name="state_dir",
                env=("CONDUCTOR_STATE_DIR",),
                default=".conductor",
                in_file=True,
                summary="A folder for state that survives restarts; relative to the project.",
            ),
            SettingSpec(
                name="store.url",
                env=("CONDUCTOR_STORE_URL",),
                default="",
                flag="--store",
                in_file=True,
                summary="The database, SQLite or PostgreSQL; without it, conductor.db in the state folder.",
            ),
            SettingSpec(
                name="log.level",
                env=("CONDUCTOR_LOG_LEVEL",),
                default="info",
                flag="-v, -q",
                choices=("debug", "info", "warning", "error"),
                summary="What `serve` logs.",
            ),
            SettingSpec(
                name="log.format",
                env=("CONDUCTOR_LOG_FORMAT",),
                default="auto",
                choices=("auto", "console", "json"),
                summary="How `serve` logs; `auto` is console on a terminal and JSON in a pipe.",
            ),
            SettingSpec(
                name="color",
                env=("CONDUCTOR_COLOR", "NO_COLOR", "FORCE_COLOR", "CI"),
                default="auto",
                flag="--color",
                choices=("auto", "always", "never"),
                summary="Colour on the terminal; NO_COLOR, FORCE_COLOR and CI are honoured.",
            ),
            SettingSpec(
                name="no_input",
                env=("CONDUCTOR_NO_INPUT", "CI"),
                default="false",
                flag="--no-input",
                choices=("true", "false"),
                summary="Never ask; what would be asked is an error that names the missing option.",
            ),
            SettingSpec(
                name="actor",
                env=("CONDUCTOR_ACTOR", "USER", "LOGNAME"),
                default="unknown",
                summary="Who acts, as the journal records it.",
            ),
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting's value.

    Attributes:
        name: As in `SettingSpec`.
        value: As text.
        origin: What won.
        place: The option, the variable or the file that won; empty for defaults.
    """

    name: str
    value: str
    origin: Origin
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of this process."""

    by_name: Mapping[str, Setting]

    def text(self, name: str) -> str:
        """The value as text."""
        return self.by_name[name].value

    @property
    def project(self) -> Path:
        """The project's folder, absolute."""
        return Path(self.text("project"))

    @property
    def state_dir(self) -> Path:
        """The state folder, absolute."""
        return self.project / self.text("state_dir")

    @property
    def store_url(self) -> str:
        """The database; may hold a password, never to be shown."""
        return self.text("store.url") or f"sqlite:///{self.state_dir / 'conductor.db'}"

    @property
    def actor(self) -> str:
        """Who acts."""
        return self.text("actor")

    @property
    def is_without_input(self) -> bool:
        """Never ask."""
        return self.text("no_input") == "true"


def environment() -> Mapping[str, str]:
    """The variables of this process."""
    return os.environ


def find_project(start: Path) -> Path:
    """The nearest folder upwards from `start` that holds `conductor.yml`; `start` itself when there is none."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / _PROJECT_FILE).is_file()), start)


def read_settings(
    *, flags: Mapping[str, str], variables: Mapping[str, str], file: Mapping[str, str], cwd: Path
) -> Settings:
    """Every setting with its origin.

    Args:
        flags: Setting → value, for those that the command line gives.
        variables: The environment.
        file: Setting → value, for those that `conductor.yml` gives.
        cwd: Where to look for the project.

    Raises:
        DefinitionError: A value is not accepted; names the place that gave it.
    """
    found = {name: _read(spec, flags=flags, variables=variables, file=file) for name, spec in SETTINGS.items()}
    project = found["project"]
    folder = (cwd / project.value).resolve() if project.value else find_project(cwd)
    found["project"] = Setting(name="project", value=str(folder), origin=project.origin, place=project.place)
    return Settings(by_name=found)


def _read(
    spec: SettingSpec, *, flags: Mapping[str, str], variables: Mapping[str, str], file: Mapping[str, str]
) -> Setting:
    if spec.name in flags:
        return _checked(spec, flags[spec.name], Origin.FLAG, spec.flag)
    for name in spec.env:
        value = _from_variable(spec, name, variables.get(name, ""))
        if value:
            return _checked(spec, value, Origin.ENV, name)
    if spec.in_file and spec.name in file:
        return _checked(spec, file[spec.name], Origin.FILE, _PROJECT_FILE)
    return Setting(name=spec.name, value=spec.default, origin=Origin.DEFAULT)


def _from_variable(spec: SettingSpec, name: str, value: str) -> str:
    """Variables that other tools use too mean something else than our words. Empty for "does not say"."""
    if not value:
        return ""
    if name == "NO_COLOR":
        return "never"
    if name == "FORCE_COLOR":
        return "never" if value == "0" else "always"
    if name == "CI":
        is_on = value.lower() not in {"false", "0", "no"}
        return {"color": "never", "no_input": "true"}[spec.name] if is_on else ""
    return _yes_no(value) if spec.choices == ("true", "false") else value


def _yes_no(value: str) -> str:
    return {"1": "true", "yes": "true", "0": "false", "no": "false"}.get(value.lower(), value.lower())


def _checked(spec: SettingSpec, value: str, origin: Origin, place: str) -> Setting:
    if spec.choices and value not in spec.choices:
        raise DefinitionError(
            f"setting {spec.name} cannot be used: {place} says {value!r}; write one of {', '.join(spec.choices)}"
        )
    return Setting(name=spec.name, value=value, origin=origin, place=place)
