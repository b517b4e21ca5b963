"""The pages about what users write: pipeline files, project files, and the settings of a process."""

from __future__ import annotations

from pydantic import BaseModel

from conductor.config import SETTINGS, Origin
from conductor.loader.models import PipelineFile
from conductor.loader.projectfile import ConnectionHead, ProjectFile
from tools.reference.models import enums_in, model_sections, models_below, word_sections
from tools.reference.source import member_lines, table

__all__ = ["pipeline_page", "project_page", "settings_page"]

_HEADINGS = {
    "PipelineFile": "The file",
    "NodeFile": "A node",
    "Param": "A parameter",
    "Schedule": "schedule",
    "Defaults": "defaults",
    "Concurrency": "concurrency",
    "Retries": "retries",
    "Timeout": "timeout",
    "ProjectFile": "conductor.yml",
    "StorePlace": "store",
    "ConnectionDefaults": "connections",
    "SecretsPlace": "secrets",
    "ConnectionHead": "connections.yml",
}
_WORDS = {
    "Backoff": "Words of `backoff`",
    "ErrorClass": "Words of `retries.on`",
    "OnFailure": "Words of `on_failure`",
    "Delivery": "Words of `delivery`",
    "OnUnknown": "Words of `on_unknown`",
    "IfRunning": "Words of `if_running`",
    "TriggerRule": "Words of `trigger_rule`",
    "ConcurrencyPolicy": "Words of `concurrency.policy`",
}
_PIPELINE = """\
# Pipeline files

A pipeline is one YAML 1.2 file, by default below `pipelines/`. Unknown fields are errors. Durations are written as
`90s`, `45m`, `2h`, `1h30m` or `1d`. Times of day and cron expressions are quoted. Anchors, aliases and tags of YAML are
refused.

```yaml title="pipelines/orders.yml"
version: 1
name: orders
schedule: "0 6 * * *"
timezone: Europe/Paris
params:
  full: false
nodes:
  export:
    uses: command.run
    with: {argv: [python, export.py, "${{ run.date }}", "full=${{ params.full }}"]}
    retries: {attempts: 2, delay: 1m}
    timeout: 30m
  publish:
    uses: command.run
    with: {argv: [python, publish.py]}
    depends_on: [export]
    if: ${{ nodes.export.outputs.exit_code == 0 }}
```

## Expressions

`${{ ... }}` holds one [CEL](https://cel.dev) expression. A value that is one whole expression keeps its type; inside
text it is formatted. A literal `${{` is written `$${{`. Expressions see:

| Name | Holds |
|---|---|
| `params.<name>` | the run's parameters |
| `run` | `id`, `date`, `logical_time`, `scheduled_for`, `trigger`, `attempt`, `is_backfill` |
| `nodes.<id>` | `status` and `outputs` of a node that this one depends on |
| `pipeline` | `name`, `version`, `owner` |
| `env` | the project's `environment` |

Secrets are not among them: a pipeline never holds one. `conductor validate` tries every expression on sample values.

"""
_PROJECT = """\
# Project files

A project is a folder with `conductor.yml`, `connections.yml` and pipelines. Both files take
`${{ secret('NAME') }}`, `${{ env_var('NAME') }}` and `${{ env_var('NAME', 'default') }}`, and no other expression.
A secret is looked for in the environment under its name, then under its name in capitals, then as a file of that name
in the secrets folder.

```yaml title="conductor.yml"
version: 1
name: shop
pools: {warehouse: 4}
store: {url: "${{ env_var('SHOP_STORE_URL', '') }}"}
```

```yaml title="connections.yml"
fivetran_prod:
  type: fivetran
  api_key: ${{ secret('FIVETRAN_API_KEY') }}
  api_secret: ${{ secret('FIVETRAN_API_SECRET') }}
  max_parallel: 20
```

"""
_CONNECTIONS = """\
Each entry is a connection by name. The fields beside these two belong to its type: see
[Integrations](integrations.md).
"""


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name)


def pipeline_page() -> str:
    """`docs/reference/pipeline-file.md`."""
    models: list[type[BaseModel]] = [PipelineFile, *models_below(PipelineFile)]
    words = word_sections(enums_in(models), titles=_WORDS, level=2)
    return _PIPELINE + model_sections(models, level=2, heading=_heading) + "\n" + words


def project_page() -> str:
    """`docs/reference/project-files.md`."""
    known = {*models_below(PipelineFile)}
    models: list[type[BaseModel]] = [ProjectFile, *(model for model in models_below(ProjectFile) if model not in known)]
    project = model_sections(models, level=2, heading=_heading).replace(
        "](#defaults)", "](pipeline-file.md#defaults)"
    )  # fmt: skip
    head = model_sections([ConnectionHead], level=2, heading=_heading)
    return f"{_PROJECT}{project}\n{head}\n{_CONNECTIONS}"


_SETTINGS = """\
# Settings

Settings of one process, and not of a project. A flag wins over a variable, a variable over `conductor.yml`, and that
over the default. `conductor config show --origin` prints every value and what won.
"""


def settings_page() -> str:
    """`docs/reference/settings.md`."""
    rows = [
        (
            f"`{spec.name}`",
            f"`{spec.flag}`" if spec.flag else "",
            ", ".join(f"`{name}`" for name in spec.env),
            "yes" if spec.in_file else "",
            f"`{spec.default}`" if spec.default else "",
            spec.summary + (f" One of {', '.join(f'`{word}`' for word in spec.choices)}." if spec.choices else ""),
        )
        for spec in SETTINGS.values()
    ]
    origins = [(f"`{word}`", says) for word, says in member_lines("conductor.config", Origin.__name__).items()]
    head = ("Setting", "Flag", "Variables", "In conductor.yml", "Default", "Meaning")
    return "\n".join([_SETTINGS, table(head, rows), "## Origins\n", table(("Word", "Meaning"), origins)])
