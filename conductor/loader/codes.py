"""Every diagnostic code with its title and the long text of `conductor explain`. A table; codes are never reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["CODES", "Code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One kind of mistake.

    Attributes:
        title: A few words.
        explanation: What is wrong, why it matters, what to do.
        severity: `error` or `warning`, unless the place that finds it says otherwise.
    """

    title: str
    explanation: str
    severity: str = "error"


CODES: Mapping[str, Code] = MappingProxyType(
    {
        "CND001": Code(
            title="the file cannot be read",
            explanation=(
                "The file is missing, empty, not UTF-8 or not valid YAML. YAML stops at the first such place, so "
                "there may be more behind it. Most often an indentation, a quote or a bracket is not closed, or "
                "a text that begins with a special character (`@`, `*`, `&`, `%`) or holds `: ` needs quotes."
            ),
        ),
        "CND002": Code(
            title="unknown field",
            explanation=(
                "Only documented fields are accepted, so that a misspelt one cannot be ignored in silence. The "
                "help names the nearest field, or our word for what another tool calls by this one."
            ),
        ),
        "CND003": Code(
            title="a required field is missing",
            explanation="Nothing sensible can be assumed for this field. Add it below the underlined key.",
        ),
        "CND004": Code(
            title="a value does not fit",
            explanation=(
                "The value has the wrong type, is out of range or is none of the accepted words. Texts that look "
                "like a number or a boolean need quotes."
            ),
        ),
        "CND005": Code(
            title="the same key twice",
            explanation=(
                "YAML parsers usually keep the last one in silence, which loses what you wrote. Rename or remove "
                "one of them."
            ),
        ),
        "CND006": Code(
            title="a YAML feature that is not accepted",
            explanation=(
                "Anchors, aliases, merge keys, tags, complex keys and several documents in one file are refused: "
                "they let a small file grow without bound or mean more than it shows. Use `defaults` for what "
                "nodes share."
            ),
        ),
        "CND007": Code(
            title="the file is too large",
            explanation="A file may have 1 MiB, 64 levels and 200,000 values. Split the pipeline in several.",
        ),
        "CND008": Code(
            title="not supported in this version",
            explanation=(
                "The field is planned but does nothing yet, and a field that does nothing would be a promise not "
                "kept. Remove it."
            ),
        ),
        "CND009": Code(
            title="two pipelines have the same name",
            explanation="Runs, links and history hang on a pipeline's name. Rename one of the two.",
        ),
        "CND010": Code(
            title="a name is not accepted",
            explanation=(
                "Names of pipelines, nodes, pools and connections begin with a small letter or a digit and go on "
                "with small letters, digits, `_` and `-`, 63 characters at most. They appear in addresses, keys "
                "at vendors and expressions, and look-alike letters of other scripts would let two names look "
                "the same. A connection must not have the name of an integration of another type."
            ),
        ),
        "CND011": Code(
            title="not a duration",
            explanation=(
                "Durations are written as `90s`, `45m`, `2h`, `1h30m` or `1d`, at most 365 days. A bare number "
                "does not say its unit; ISO 8601 (`PT45M`) is not accepted."
            ),
        ),
        "CND012": Code(
            title="the schedule is not usable",
            explanation=(
                "A cron expression has five fields (minute, hour, day, month, weekday) and must fire at least "
                "once within five years: `0 0 30 2 *` never does. For a run by hand only, leave `schedule` out."
            ),
        ),
        "CND013": Code(
            title="unknown time zone",
            explanation=(
                "Zones are IANA names such as `Europe/Paris` or `UTC`; offsets such as `+01:00` do not say how "
                "the clocks change."
            ),
        ),
        "CND014": Code(
            title="a parameter's default does not fit its type",
            explanation=(
                "A parameter is `name: {type: ..., default: ...}` with the types string, integer, number, "
                "boolean, list and object, or only a default whose type is plain. A parameter without a default "
                "must be given with each run, so a schedule needs defaults for all."
            ),
        ),
        "CND020": Code(
            title="unknown node",
            explanation=(
                "`depends_on` names a node that this pipeline does not have. A node is named by its key under `nodes`."
            ),
        ),
        "CND021": Code(
            title="nodes depend on one another in a circle",
            explanation=(
                "None of them could ever begin. The message names one shortest circle; where several are "
                "tangled, the next shows itself when this one is cut."
            ),
        ),
        "CND022": Code(
            title="a node depends on itself",
            explanation="It could never begin. Remove it from its own `depends_on`.",
        ),
        "CND023": Code(
            title="a dependency is written twice",
            explanation="It changes nothing; probably another node was meant.",
            severity="warning",
        ),
        "CND024": Code(
            title="the trigger rule can never be true",
            explanation=(
                "`one_success`, `one_failed` and `all_failed` judge the nodes upstream: on a node without "
                "`depends_on` they mean nothing, and `one_failed` below nodes that end as warned (`on_failure: "
                "warn`) can only come true when someone cancels them."
            ),
        ),
        "CND025": Code(
            title="the node never runs",
            explanation=(
                "Its `if` is always false, or it needs the success of a node that never runs. Fine for a while; "
                "then remove it."
            ),
            severity="warning",
        ),
        "CND030": Code(
            title="unknown integration",
            explanation=(
                "`uses` is `<integration>.<operation>`, and no installed package offers this integration. "
                "Install it, or correct the name."
            ),
        ),
        "CND031": Code(
            title="unknown operation",
            explanation="The integration exists but has no operation of this name.",
        ),
        "CND032": Code(
            title="no connection",
            explanation=(
                "The operation needs credentials. With exactly one connection of the integration's type in "
                "`connections.yml`, or a default for the type in `conductor.yml`, it is used; otherwise say "
                "which."
            ),
        ),
        "CND033": Code(
            title="unknown connection",
            explanation="`connections.yml` has no connection of this name.",
        ),
        "CND034": Code(
            title="a connection of another type",
            explanation="The node's operation belongs to one integration and the connection to another.",
        ),
        "CND036": Code(
            title="unknown pool",
            explanation="Pools are declared with their number of slots under `pools` in `conductor.yml`.",
        ),
        "CND037": Code(
            title="say what to do when a start is lost",
            explanation=(
                "This vendor offers no way to recognise a start whose answer was lost. `delivery: at_most_once` "
                "never sends again and asks a person; `delivery: at_least_once` sends once more and may start it "
                "twice. Only you know which is worse."
            ),
        ),
        "CND038": Code(
            title="the vendor cannot promise this delivery",
            explanation=(
                "`effectively_once` needs a vendor that folds two starts with the same key into one. Leave "
                "`delivery` out for the strongest promise that this operation can keep."
            ),
        ),
        "CND039": Code(
            title="an integration could not be loaded",
            explanation=(
                "An installed package offers an integration but fails to import, or offers something else. The "
                "others work. Nodes that use it are errors until it is mended."
            ),
            severity="warning",
        ),
        "CND040": Code(
            title="a secret in a pipeline",
            explanation=(
                "The value looks like a key, a token or a password. Pipelines are kept in git, in the database "
                "and on pages. Move it to `connections.yml` as `${{ secret('NAME') }}`, and change it at the "
                "vendor: it has been written to disk."
            ),
        ),
        "CND041": Code(
            title="a secret in a connection file",
            explanation=(
                "Fields that hold secrets take references only: `${{ secret('NAME') }}`. The value itself is "
                "given by the environment or by a file in the secrets folder. Change it at the vendor: it has "
                "been written to disk."
            ),
        ),
        "CND042": Code(
            title="a secret or variable is not set",
            explanation=(
                "The reference is right but nothing has a value under this name on this machine. `validate` "
                "warns, because the machine that runs may have it; `serve` and `run` refuse to begin."
            ),
            severity="warning",
        ),
        "CND043": Code(
            title="not a reference that is accepted here",
            explanation=(
                "`conductor.yml` and `connections.yml` take `${{ secret('NAME') }}`, `${{ env_var('NAME') }}` "
                "and `${{ env_var('NAME', 'default') }}` and nothing else. Pipelines take expressions, but "
                "neither of these two: the same pipeline must mean the same everywhere."
            ),
        ),
        "CND050": Code(
            title="the expression cannot be parsed",
            explanation=(
                "`${{ ... }}` holds one CEL expression. A literal `${{` is written `$${{`. `if` is true, false "
                "or one whole expression."
            ),
        ),
        "CND051": Code(
            title="the expression uses an unknown name",
            explanation=(
                "Expressions see `params`, `run` (id, date, logical_time, scheduled_for, trigger, attempt, "
                "is_backfill), `nodes.<id>` (status, outputs), `pipeline` (name, version, owner) and `env`. An "
                "id with a dash is written `nodes['a-b']`. Outputs are those that the operation declares."
            ),
        ),
        "CND052": Code(
            title="the expression uses a node that need not have ended",
            explanation=(
                "Only nodes that this one depends on, directly or not, have ended when it begins. Add the node "
                "to `depends_on`."
            ),
        ),
        "CND053": Code(
            title="the expression does not fit",
            explanation=(
                "Tried on sample values of the declared types, the expression failed whatever the "
                "values. CEL does not mix types: convert with `int()`, `double()` or `string()`."
            ),
        ),
        "CND054": Code(
            title="the expression is too much",
            explanation=(
                "An expression has at most 500 characters and 32 open brackets, two of `map`, `filter`, `all`, "
                "`exists` (one `map`, none inside another) and two `matches`. Anything larger belongs in the "
                "tool that runs."
            ),
        ),
        "CND055": Code(
            title="`if` is not true or false",
            explanation="The expression of an `if` must give a boolean; text such as `'false'` does not count as one.",
        ),
        "CND060": Code(
            title="no project here",
            explanation=(
                "A project is a folder with a `conductor.yml`. `conductor init` makes one; `--project` names one "
                "elsewhere."
            ),
        ),
        "CND061": Code(
            title="no pipeline file",
            explanation=(
                "No file matches `pipelines` in `conductor.yml`. Patterns are relative to the project and stay "
                "inside it."
            ),
            severity="warning",
        ),
    }
)
