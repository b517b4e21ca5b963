"""What other tools call our fields, and fields that later versions will have. Tables only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["LATER", "NODE_WORDS", "PIPELINE_WORDS", "TYPE_WORDS", "normal"]


def normal(word: str) -> str:
    """`dependsOn`, `depends-on` and `DEPENDS_ON` are one word here."""
    return "".join(character for character in word.lower() if character.isalnum())


def _table(groups: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({word: help_ for help_, words in groups.items() for word in words.split()})


NODE_WORDS: Mapping[str, str] = _table(
    {
        "use `depends_on`": "needs dependson depends upstream upstreams after requires deps dependencies runafter",
        "use `uses: <integration>.<operation>`": (
            "operator type task taskkey action integration component kind connector plugin"
        ),
        "use `with`": "params parameters config configuration inputs args arguments kwargs settings properties",
        "use `if: ${{ ... }}`": "when condition runif onlyif conditions",
        "use `retries`": "retry maxretries retrypolicy retrydelay retrydelayseconds attempts maxattempts backoff",
        "use `timeout: 45m`": "timeoutminutes timeoutseconds executiontimeout deadline maxduration timeouts",
        "use `on_failure: warn`": "continueonerror allowfailure allowfailures ignoreerrors softfail",
        "use `trigger_rule`": "triggerrules rule runcondition",
        "give values in `with`, from `params` by `${{ params.name }}`": "env environment variables vars",
        "use `uses: command.run` and put the command in `with`": "script run command cmd bash shell",
        "the statement stands in `with` of a node that `uses: sql.<operation>`": "sql query",
        "a node is named by its key under `nodes`; use `description` for a text": "name id taskid label",
        "use `pools: [name]`": "pool poolslots queue",
        "use `connection`, a name in connections.yml; a vendor's id stands in `with`": (
            "conn connid connectionid credentials profile"
        ),
        "secrets stand in connections.yml as references": "secrets token password apikey",
        "use `if_running`": "ifalreadyrunning onrunning",
        "use `priority`": "priorityweight weight",
        "a schedule belongs to the pipeline, not to a node": "cron schedule",
    }
)
"""Normalised foreign word → help, for fields of a node."""

PIPELINE_WORDS: Mapping[str, str] = _table(
    {
        "use `nodes`, a mapping by id": "tasks steps jobs ops stages task operators activities flow graph",
        "use `schedule`": "triggers",
        "use `timezone`": "tz zone scheduletimezone",
        "use `params`": "inputs variables vars parameters arguments",
        "use `name`": "id dagid namespace pipeline dag workflow",
        "use `concurrency`": "maxactiveruns maxconcurrentruns concurrencylimit parallelism maxactivetasks",
        "use `defaults`": "defaultargs default",
        "use `run_timeout`": "dagruntimeout timeout maxduration timeoutseconds",
        "use `schedule: {cron: ..., catchup: ...}`": "catchup maxcatchup",
        "not needed: a schedule begins when the pipeline is deployed": "startdate enddate",
        "the environment is set in conductor.yml": "env environment environments",
        "use `defaults: {retries: ...}`": "retries retry",
        "connections stand in connections.yml": "connection connections secrets",
        "use `owner`": "owners team maintainer",
        "use `tags`": "labels",
        "use `description`": "doc docmd docs",
    }
)
"""Normalised foreign word → help, for fields of a pipeline."""

LATER: frozenset[str] = frozenset(
    {
        "alerts", "backfill", "calendar", "consumes", "fan_out", "for_each", "matrix", "max_parallel", "notify",
        "on_success", "parallel", "partitions", "poll", "produces", "resources", "sensor", "sla", "strategy",
        "freshness",
    }
)  # fmt: skip
"""Fields of pipelines and nodes that are planned and refused until they work."""

TYPE_WORDS: Mapping[str, str] = _table(
    {
        "string": "str text varchar",
        "integer": "int long number numeric",
        "number": "float double decimal",
        "boolean": "bool",
        "list": "array tuple sequence",
        "object": "dict map mapping json struct",
    }
)
"""Normalised foreign word → our name of a parameter's type."""
