"""One node of a file → one `NodePlan`: operation, connection, promises, settings, limits. Reports what does not fit."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from conductor.core.errors import ExpressionError
from conductor.core.plan import Limits, NodePlan, RetryPolicy
from conductor.core.vendor import Capabilities, Correlation, Delivery, Json
from conductor.loader.diagnostics import did_you_mean
from conductor.loader.expcheck import check_condition, check_text, is_certain, try_on_samples
from conductor.loader.expressions import CelExpression
from conductor.loader.models import Defaults, NodeFile, Retries, Timeout
from conductor.loader.problems import report_problems
from conductor.loader.scope import Scope, needs_connection
from conductor.loader.templates import Hole, SettingsTemplate, render_constant, strings_in
from conductor.sdk.plugin import Operation, Plugin

__all__ = ["plan_node"]


def plan_node(scope: Scope, node_id: str, node: NodeFile) -> NodePlan | None:
    """The plan; None where something is wrong, which is then reported."""
    condition = check_condition(scope, node_id, written=node.if_, where=("nodes", node_id, "if"))
    _check_pools(scope, node_id, node)
    found = _find_operation(scope, node_id, node.uses)
    if found is None:
        return None
    plugin, operation = found
    connection = _find_connection(scope, node_id, node, plugin)
    template, sample = _compile_settings(scope, node_id, node, operation)
    if template is None:
        return None
    capabilities = operation.capabilities(sample)
    delivery = _choose_delivery(scope, node_id, node, capabilities)
    if connection is None or delivery is None:
        return None
    defaults = scope.file.defaults
    return NodePlan(
        id=node_id,
        uses=node.uses,
        connection=connection,
        settings=template,
        capabilities=capabilities,
        delivery=delivery,
        if_running=_chosen(node, defaults, "if_running").if_running or capabilities.if_running,
        on_unknown=_chosen(node, defaults, "on_unknown").on_unknown or capabilities.on_unknown,
        settle_window_s=_settle_window(_chosen(node, defaults, "settle_window").settle_window, capabilities),
        depends_on=tuple(dict.fromkeys(node.depends_on)),
        trigger_rule=node.trigger_rule,
        condition=condition,
        retries=_retries(node, defaults),
        limits=_limits(node, defaults),
        on_failure=_chosen(node, defaults, "on_failure").on_failure,
        resend_limit=_chosen(node, defaults, "resend_limit").resend_limit,
        pools=tuple(dict.fromkeys(_chosen(node, defaults, "pools").pools)),
        priority=_chosen(node, defaults, "priority").priority,
        description=node.description,
    )


def _chosen(node: NodeFile, defaults: Defaults, name: str) -> Defaults:
    """The node where it says something about `name`, else the defaults."""
    return node if name in node.model_fields_set else defaults


def _settle_window(written: float | None, capabilities: Capabilities) -> float:
    return capabilities.settle_window_s if written is None else written


def _find_operation(scope: Scope, node_id: str, uses: str) -> tuple[Plugin, Operation] | None:
    kind, _, name = uses.partition(".")
    where = ("nodes", node_id, "uses")
    plugins = scope.operations.plugins
    plugin = plugins.get(kind)
    if plugin is None:
        every = [f"{other}.{operation}" for other, found in plugins.items() for operation in found.operations]
        help_text = scope.report.suggest(uses, every) or scope.report.suggest(kind, plugins)
        help_text = help_text or f"installed: {', '.join(sorted(plugins)) or 'none'}"
        scope.report.add("CND030", f"no integration `{kind}` is installed", where, help_text=help_text)
        return None
    operation = plugin.operations.get(name)
    if operation is None:
        help_text = did_you_mean(name, plugin.operations) or f"it has: {', '.join(sorted(plugin.operations))}"
        scope.report.add("CND031", f"`{kind}` has no operation `{name}`", where, help_text=help_text)
        return None
    return plugin, operation


def _find_connection(scope: Scope, node_id: str, node: NodeFile, plugin: Plugin) -> str | None:
    where = ("nodes", node_id, "connection")
    facts = scope.facts
    if node.connection is not None:
        type_ = facts.connections.get(node.connection)
        if type_ == plugin.kind:
            return node.connection
        if type_ == "" or (type_ is None and not facts.is_complete):
            return None  # the mistake is in connections.yml and reported there
        if type_ is None:
            help_text = scope.report.suggest(node.connection, facts.connections)
            help_text = help_text or "add it to connections.yml"
            scope.report.add("CND033", f"no connection `{node.connection}`", where, help_text=help_text)
        else:
            message = f"connection `{node.connection}` is of type `{type_}`; `{node.uses}` needs `{plugin.kind}`"
            scope.report.add("CND034", message, where, help_text=_fitting(facts.connections, plugin.kind))
        return None
    fitting = [name for name, type_ in facts.connections.items() if type_ == plugin.kind]
    default = facts.default_connections.get(plugin.kind)
    if default in fitting:
        return default
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and not needs_connection(plugin.connection):
        return plugin.kind
    if not facts.is_complete:
        return None
    what = f"`{node.uses}` needs a connection of type `{plugin.kind}`"
    message = f"{what}, and there is none" if not fitting else f"{what}: say which of {len(fitting)}"
    help_text = _fitting(facts.connections, plugin.kind)
    scope.report.add("CND032", message, ("nodes", node_id, "uses"), help_text=help_text)
    return None


def _fitting(connections: Mapping[str, str], kind: str) -> str:
    names = ", ".join(f"`{name}`" for name, type_ in connections.items() if type_ == kind)
    return f"fitting: {names}" if names else f"add one with `type: {kind}` to connections.yml"


def _check_pools(scope: Scope, node_id: str, node: NodeFile) -> None:
    for at, pool in enumerate(node.pools if "pools" in node.model_fields_set else ()):
        if pool not in scope.facts.pools and scope.facts.is_complete:
            help_text = scope.report.suggest(pool, scope.facts.pools) or "declare it under `pools` in conductor.yml"
            scope.report.add("CND036", f"no pool `{pool}`", ("nodes", node_id, "pools", at), help_text=help_text)


def _compile_settings(
    scope: Scope, node_id: str, node: NodeFile, operation: Operation
) -> tuple[SettingsTemplate | None, Mapping[str, Json]]:
    """The template, and settings that stand for those of every run."""
    base = ("nodes", node_id, "with")
    texts = [(inside, text) for inside, text in strings_in(node.with_) if "${{" in text]
    if not texts:
        try:
            constant = render_constant(operation, node.with_)
        except ValidationError as error:
            report_problems(scope.report, error, node.with_, model=operation.settings, base=base)
            return None, {}
        return SettingsTemplate(operation=operation, written=node.with_, constant=constant), constant.settings
    holes = [check_text(scope, node_id, text, base + inside, inside) for inside, text in texts]
    right = [hole for hole in holes if hole is not None]
    if len(right) < len(holes):
        return None, {}
    for hole in right:
        try_on_samples(scope, hole, base + hole.where)
    template = SettingsTemplate(operation=operation, written=node.with_, holes=tuple(right))
    if not any(isinstance(piece, CelExpression) for hole in right for piece in hole.pieces):
        return _constant_of(scope, template, base)
    return template, _sample_settings(scope, template, base)


def _constant_of(
    scope: Scope, template: SettingsTemplate, base: tuple[str, ...]
) -> tuple[SettingsTemplate | None, Mapping[str, Json]]:
    """Only escaped `$${{` in it: as constant as any other."""
    values = template.fill({})
    try:
        constant = render_constant(template.operation, values)
    except ValidationError as error:
        report_problems(scope.report, error, values, model=template.operation.settings, base=base)
        return None, {}
    return SettingsTemplate(
        operation=template.operation, written=template.written, constant=constant
    ), constant.settings


def _sample_settings(scope: Scope, template: SettingsTemplate, base: tuple[str, ...]) -> Mapping[str, Json]:
    """The settings on the first sample; what only these sample values make wrong is not reported."""
    values: Mapping[str, Json] = {}
    for context in scope.samples:
        try:
            values = template.fill(context)
            return render_constant(template.operation, values).settings
        except ExpressionError:
            continue
        except ValidationError as error:
            open_places = [hole.where for hole in template.holes if not _has_certain_type(scope, hole, error)]
            report_problems(
                scope.report, error, values, model=template.operation.settings, base=base, ignore=open_places
            )
            return values
    return values or {name: value for name, value in template.written.items() if "${{" not in str(value)}


def _has_certain_type(scope: Scope, hole: Hole, error: ValidationError) -> bool:
    """The sample's type, not its value, is what the model refuses at this place."""
    piece = hole.pieces[0]
    certain = not hole.is_whole or (isinstance(piece, CelExpression) and is_certain(scope, piece))
    at_place = [
        item["type"] for item in error.errors(include_url=False) if item["loc"][: len(hole.where)] == hole.where
    ]
    return certain and bool(at_place) and all(kind.endswith("_type") for kind in at_place)


def _choose_delivery(scope: Scope, node_id: str, node: NodeFile, capabilities: Capabilities) -> Delivery | None:
    written = _chosen(node, scope.file.defaults, "delivery").delivery
    where = ("nodes", node_id, "delivery") if "delivery" in node.model_fields_set else ("nodes", node_id, "uses")
    if written is None:
        if capabilities.correlation is Correlation.NONE and not capabilities.sends_nothing:
            message = f"`{node.uses}` cannot recognise a lost start: say what to do with one"
            help_text = "add `delivery: at_most_once` (never twice) or `delivery: at_least_once` (never lost)"
            scope.report.add("CND037", message, where, help_text=help_text)
            return None
        return capabilities.delivery
    if written is Delivery.EFFECTIVELY_ONCE and capabilities.correlation is not Correlation.KEY:
        message = f"`{node.uses}` cannot promise `effectively_once`: the vendor does not fold repeated starts"
        help_text = f"leave `delivery` out for `{capabilities.delivery}`"
        scope.report.add("CND038", message, where, help_text=help_text)
        return None
    return written


def _retries(node: NodeFile, defaults: Defaults) -> RetryPolicy:
    own, base = node.retries, defaults.retries
    if "retries" not in node.model_fields_set:
        own = base
    if not own.model_fields_set and not base.model_fields_set:
        return _RETRIES

    def said(name: str) -> Retries:
        return own if name in own.model_fields_set else base

    return RetryPolicy(
        attempts=said("attempts").attempts,
        delay_s=said("delay").delay,
        backoff=said("backoff").backoff,
        max_delay_s=said("max_delay").max_delay,
        jitter=said("jitter").jitter,
        on=frozenset(said("on").on),
    )


def _limits(node: NodeFile, defaults: Defaults) -> Limits:
    own, base = node.timeout, defaults.timeout
    if "timeout" not in node.model_fields_set:
        own = base
    if not own.model_fields_set and not base.model_fields_set:
        return _LIMITS

    def said(name: str) -> Timeout:
        return own if name in own.model_fields_set else base

    return Limits(
        total_s=said("total").total,
        queued_s=said("queued").queued,
        running_s=said("running").running,
        no_progress_s=said("no_progress").no_progress,
        cancel_grace_s=said("cancel_grace").cancel_grace,
    )


_RETRIES = RetryPolicy()
_LIMITS = Limits()
