"""The files of a new project. Each template validates as it is; nothing that exists is ever overwritten."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from conductor.core.errors import ConflictError

__all__ = ["Template", "files_of", "project_name", "write_project"]


class Template(StrEnum):
    """What the new project shows."""

    HELLO = "hello"
    """Three commands on this machine: runs at once, without credentials."""
    ELT = "elt"
    """Fivetran, then dbt, then Hightouch: needs their credentials to run, none to validate."""


_PROJECT = """\
# The project. Every setting: `conductor config show --origin`.
version: 1
name: {name}
"""

_IGNORE = """\
# State: the database, logs, the control socket.
.conductor/
"""

_HELLO = """\
# yaml-language-server: $schema=../.conductor/pipeline.schema.json
version: 1
name: hello
description: Three steps on this machine, to see how a run goes.

params:
  greeting: {type: string, default: hello}

defaults:
  timeout: 5m

nodes:
  extract:
    uses: command.run
    with: {argv: [sh, -c, "echo extracting; echo '{\\"rows\\": 3}' > \\"$CONDUCTOR_OUTPUT\\""]}

  transform:
    uses: command.run
    with: {argv: [sh, -c, "echo transforming"]}
    depends_on: [extract]
    retries: 1

  report:
    uses: command.run
    with: {argv: [echo, "${{ params.greeting }} from run ${{ run.id }}"]}
    depends_on: [transform]
"""

_ELT = """\
# yaml-language-server: $schema=../.conductor/pipeline.schema.json
version: 1
name: orders_to_crm
description: Orders to the warehouse, modelled by dbt, pushed to the CRM.
owner: data-platform
schedule: "0 6 * * *"
timezone: Europe/Paris
concurrency: 1

defaults:
  retries: 2
  timeout: 1h

nodes:
  sync_orders:
    uses: fivetran.sync
    with: {connection_id: warehouse_orders}
    timeout: 45m

  build_marts:
    uses: dbt.core_build
    with: {select: ["tag:daily"]}
    depends_on: [sync_orders]

  push_to_crm:
    uses: hightouch.sync
    with: {sync_id: 8123}
    depends_on: [build_marts]
"""

_ELT_CONNECTIONS = """\
# Secrets stay outside: in the environment, or one file each in the folder `secrets.directory` of conductor.yml.
fivetran:
  type: fivetran
  api_key: ${{ secret('FIVETRAN_API_KEY') }}
  api_secret: ${{ secret('FIVETRAN_API_SECRET') }}

hightouch:
  type: hightouch
  api_key: ${{ secret('HIGHTOUCH_API_KEY') }}

dbt:
  type: dbt
  project_dir: dbt
  max_parallel: 1
"""


def project_name(folder: Path) -> str:
    """A name that is accepted, made from the folder's."""
    name = re.sub(r"[^a-z0-9_-]+", "_", folder.resolve().name.lower()).strip("_-")[:63]
    return name or "project"


def files_of(template: Template, *, name: str) -> Mapping[str, str]:
    """Path in the project → text."""
    files = {"conductor.yml": _PROJECT.format(name=name), ".gitignore": _IGNORE}
    match template:
        case Template.HELLO:
            return {**files, "pipelines/hello.yml": _HELLO}
        case Template.ELT:
            return {**files, "connections.yml": _ELT_CONNECTIONS, "pipelines/orders_to_crm.yml": _ELT}


def write_project(root: Path, files: Mapping[str, str]) -> list[Path]:
    """Write the files; returns them in order. An existing `.gitignore` is left as it is.

    Raises:
        ConflictError: A file exists already; nothing was written.
    """
    wanted = {path: text for path, text in files.items() if path != ".gitignore" or not (root / path).exists()}
    for path in wanted:
        if (root / path).exists():
            raise ConflictError(f"{root / path} exists already: nothing was written; choose an empty folder")
    written = []
    for path, text in wanted.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written
