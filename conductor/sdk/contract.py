"""The checks that every integration must pass against its sandbox (or the real thing). No test framework is imported.

A vendor's `contract.py` gives a `Harness`; a test parametrises `CHECKS` over harnesses. Each check gets a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace

from conductor.core.errors import AmbiguousError, AuthError, IntegrationError, RefusedError, RejectedError
from conductor.core.keys import attempt_key, canonical
from conductor.core.vendor import (
    Absent,
    Baseline,
    CancelSupport,
    Correlation,
    ExternalRef,
    ExternalState,
    FindAnswer,
    FindUnknown,
    Found,
    Json,
    Observation,
    Request,
)
from conductor.sdk.plugin import Integration, Operation
from conductor.sdk.sandbox import Effect, Fault, Sandbox

__all__ = ["CHECKS", "Check", "Harness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """One operation of one integration, wired to a fresh sandbox.

    Attributes:
        name: Such as `fivetran.sync`.
        operation: The operation under test.
        integration: Built on the sandbox.
        settings: A valid `with`, dumped from the settings model.
        sandbox: Fresh, with the object that `settings` names existing and idle.
        scope: What `Sandbox.advance` calls the object of `settings`.
        start_path: A regular expression for the path of the start request.
        read_path: A regular expression for the paths that polling and finding read.
        words: Every documented vendor word → our state; includes at least one success and one failure.
        secret: A secret of the connection that must appear nowhere.
        pass_time: Let this many seconds pass on the clock that integration and sandbox share.
        extra: What does not fit every vendor, each true unless set to False: `start_answer_is_needed` (a start whose
            answer has no body is ambiguous), `has_remote_check` (`check` asks the vendor), `has_wire` (requests are
            answered with HTTP statuses; work on this host has none), `has_running` (a run is seen running and in words
            of the vendor's own; a poll that itself decides has neither).
    """

    name: str
    operation: Operation
    integration: Integration
    settings: Mapping[str, Json]
    sandbox: Sandbox
    scope: str
    start_path: str
    read_path: str
    words: Mapping[str, ExternalState]
    secret: str
    pass_time: Callable[[float], None]
    extra: Mapping[str, Json] = field(default_factory=dict)

    def request(self, *, attempt_no: int = 1, run: str = "run-1") -> Request:
        """A request as the engine would freeze it."""
        return Request(
            key=attempt_key(run=run, node="contract", attempt_no=attempt_no),
            operation=self.operation.name,
            settings=self.settings,
            pipeline="contract",
            node="contract",
            run_id=run,
            attempt_no=attempt_no,
        )


def _sends_nothing(h: Harness) -> bool:
    """A start without any effect cannot be lost, refused or found; it may simply be repeated."""
    return h.operation.capabilities(h.settings).sends_nothing


Check = Callable[[Harness], Coroutine[object, object, None]]


async def _prepared(h: Harness, request: Request) -> Request:
    if not h.operation.capabilities(h.settings).needs_baseline:
        return request
    return replace(request, baseline=await h.integration.prepare(request))


async def _started(h: Harness, *, attempt_no: int = 1) -> tuple[Request, ExternalRef]:
    request = await _prepared(h, h.request(attempt_no=attempt_no))
    return request, await h.integration.start(request)


async def _observe(h: Harness, ref: ExternalRef, *, until: Callable[[Observation], bool] | None = None) -> Observation:
    """Poll as the engine does, carrying refs that change, until `until` or 30 polls."""
    seen: Observation | None = None
    for _ in range(30):
        answer = await h.integration.poll([ref])
        seen = answer.get(ref.id)
        if seen is not None:
            ref = seen.ref or ref
            if until is None or until(seen):
                return seen
        h.pass_time(5.0)
    assert seen is not None, f"{h.name}: 30 polls never saw the run"
    assert until is None, f"{h.name}: still {seen.state} ({seen.word}) after 30 polls"
    return seen


async def _find(h: Harness, request: Request) -> FindAnswer:
    """Find as the engine does: again and again until the settle window is over; an error is unknown."""
    baseline = request.baseline
    answer: FindAnswer = FindUnknown(reason="never asked")
    for _ in range(12):
        try:
            answer = await h.integration.find(request, baseline)
        except IntegrationError as error:
            answer = FindUnknown(reason=str(error))
        if isinstance(answer, Found):
            return answer
        h.pass_time(h.operation.capabilities(h.settings).settle_window_s / 8)
    return answer


async def starts_once_and_succeeds(h: Harness) -> None:
    """One start is one ledger row (none where it sends nothing); the vendor's success is seen as success."""
    _, ref = await _started(h)
    runs = len(h.sandbox.ledger)
    assert runs == (0 if _sends_nothing(h) else 1), f"{h.name}: one start made {runs} runs"
    h.pass_time(5.0)
    if h.extra.get("has_running", True):
        h.sandbox.advance(h.scope, ExternalState.RUNNING)
        running = await _observe(h, ref)
        assert not running.state.is_final, f"{h.name}: a running run was seen as {running.state}"
        ref = running.ref or ref
        h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.SUCCEEDED)
    done = await _observe(h, ref, until=lambda seen: seen.state.is_final)
    assert done.state is ExternalState.SUCCEEDED, f"{h.name}: a success was seen as {done.state}"
    h.operation.outputs.model_validate(dict(done.outputs))


async def failure_has_a_class_and_words(h: Harness) -> None:
    """A failed run is seen as failed, with an error that has a class and the vendor's words."""
    _, ref = await _started(h)
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.FAILED)
    done = await _observe(h, ref, until=lambda seen: seen.state.is_final)
    assert done.state is ExternalState.FAILED, f"{h.name}: a failure was seen as {done.state}"
    assert done.error is not None, f"{h.name}: a failure without an error"
    assert done.error.message.strip(), f"{h.name}: a failure without words"


async def every_word_is_mapped(h: Harness) -> None:
    """Each documented vendor word becomes the state that the mapping promises."""
    for no, (word, state) in enumerate(sorted(h.words.items()), start=1):
        _, ref = await _started(h, attempt_no=no)
        h.pass_time(5.0)
        h.sandbox.advance(h.scope, state, word=word)
        seen = await _observe(h, ref, until=_says(state))
        assert seen.state is state, f"{h.name}: {word!r} was seen as {seen.state}, expected {state}"
        if not seen.state.is_final:
            h.sandbox.advance(h.scope, ExternalState.SUCCEEDED)
        h.pass_time(5.0)


def _says(state: ExternalState) -> Callable[[Observation], bool]:
    return lambda seen: seen.state is state


async def unknown_word_is_unrecognised(h: Harness) -> None:
    """A word nobody knows is neither success nor failure, and is kept verbatim."""
    if not h.extra.get("has_running", True):
        return
    _, ref = await _started(h)
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.UNRECOGNISED, word="zorbing")
    seen = await _observe(h, ref)
    assert seen.state is ExternalState.UNRECOGNISED, f"{h.name}: 'zorbing' was seen as {seen.state}"
    assert "zorbing" in seen.word, f"{h.name}: the unknown word was lost ({seen.word!r})"


async def lost_answer_is_ambiguous_then_found(h: Harness) -> None:
    """A start whose answer is lost is ambiguous; what `find` then says fits the declared correlation."""
    if _sends_nothing(h):
        return
    for effect in (Effect.LOSE_ANSWER, Effect.ERROR_AFTER):
        await _lost(h, effect)


async def _lost(h: Harness, effect: Effect) -> None:
    no = len(h.sandbox.ledger) + 1
    request = await _prepared(h, h.request(attempt_no=no))
    h.sandbox.faults.add(Fault(effect=effect, path=h.start_path, status=502))
    try:
        await h.integration.start(request)
    except AmbiguousError:
        pass
    else:
        raise AssertionError(f"{h.name}: a start with {effect} was not ambiguous")
    assert len(h.sandbox.ledger) == no, f"{h.name}: the sandbox did not do the work"
    answer = await _find(h, request)
    capabilities = h.operation.capabilities(h.settings)
    if capabilities.correlation in {Correlation.TAG, Correlation.WINDOW}:
        assert isinstance(answer, Found), f"{h.name}: a lost start was not found: {answer}"
    if capabilities.correlation is Correlation.KEY and not isinstance(answer, Found):
        await h.integration.start(request)
        assert len(h.sandbox.ledger) == no, f"{h.name}: the same key started a second run"
    assert not isinstance(answer, Absent) or capabilities.correlation in {Correlation.NONE, Correlation.KEY}
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.SUCCEEDED)
    h.pass_time(5.0)


async def lost_request_is_not_found(h: Harness) -> None:
    """A start that never arrived is never found."""
    if _sends_nothing(h):
        return
    request = await _prepared(h, h.request())
    h.sandbox.faults.add(Fault(effect=Effect.LOSE_REQUEST, path=h.start_path))
    try:
        await h.integration.start(request)
    except (AmbiguousError, RefusedError):
        pass
    else:
        raise AssertionError(f"{h.name}: a start that was never answered returned a ref")
    answer = await _find(h, request)
    assert not isinstance(answer, Found), f"{h.name}: found a run that was never started: {answer}"


async def errors_while_finding_are_unknown(h: Harness) -> None:
    """When looking fails, the answer is unknown; never absent."""
    if _sends_nothing(h):
        return
    request = await _prepared(h, h.request())
    await h.integration.start(request)
    for status in (500, 429, 403):
        h.sandbox.faults.clear()
        h.sandbox.faults.add(Fault(effect=Effect.ERROR, path=h.read_path, status=status, times=-1))
        try:
            answer = await h.integration.find(request, request.baseline)
        except IntegrationError:
            continue
        assert not isinstance(answer, Absent), f"{h.name}: HTTP {status} while looking became Absent"
    h.sandbox.faults.clear()


async def refusals_are_classed(h: Harness) -> None:
    """401 is auth, 400 is rejected, 429 is refused with its wait; none of them starts anything."""
    if not h.extra.get("has_wire", True):
        return
    cases: Sequence[tuple[int, type[IntegrationError]]] = ((401, AuthError), (400, RejectedError), (429, RefusedError))
    for status, expected in cases:
        request = await _prepared(h, h.request())
        h.sandbox.faults.add(Fault(effect=Effect.ERROR, path=h.start_path, status=status, headers={"Retry-After": "7"}))
        try:
            await h.integration.start(request)
        except expected as error:
            if isinstance(error, RefusedError):
                assert error.retry_after_s == 7.0, f"{h.name}: Retry-After was lost"
        else:
            raise AssertionError(f"{h.name}: HTTP {status} was accepted")
        h.pass_time(10.0)
    assert not h.sandbox.ledger, f"{h.name}: a refused start left a run"


async def unreadable_starts_are_ambiguous(h: Harness) -> None:
    """A 200 whose body cannot be read may have started something."""
    if _sends_nothing(h):
        return
    for body in (b"", b"<html>proxy</html>", b"[1,2", b"null", b"[]", b"[" * 100_000, b'{"id": NaN}'):
        no = len(h.sandbox.ledger) + 1
        request = await _prepared(h, h.request(attempt_no=no))
        h.sandbox.faults.add(Fault(effect=Effect.BODY, path=h.start_path, body=body))
        try:
            await h.integration.start(request)
        except AmbiguousError:
            pass
        except IntegrationError as error:
            raise AssertionError(f"{h.name}: body {body[:20]!r} on a start became {type(error).__name__}") from error
        else:
            needs_body = h.extra.get("start_answer_is_needed", True)
            assert not needs_body, f"{h.name}: body {body[:20]!r} on a start was accepted"
        h.pass_time(5.0)
        h.sandbox.advance(h.scope, ExternalState.SUCCEEDED)
        h.pass_time(5.0)


async def bad_polls_decide_nothing(h: Harness) -> None:
    """A poll that fails or answers rubbish raises an integration error or sees nothing: it never ends a run."""
    if not h.extra.get("has_running", True):
        return
    _, ref = await _started(h)
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.RUNNING)
    faults = [
        Fault(effect=Effect.ERROR, path=h.read_path, status=status, times=2) for status in (500, 502, 429, 401, 403)
    ]
    bodies = (b"", b"<html>", b"{}", b"[]", b"null", b'{"data": null}', b'{"data": [null]}', b"[" * 100_000)
    faults += [Fault(effect=Effect.BODY, path=h.read_path, body=body, times=2) for body in bodies]
    for fault in faults:
        h.sandbox.faults.clear()
        h.sandbox.faults.add(fault)
        try:
            answer = await h.integration.poll([ref])
        except IntegrationError:
            continue
        seen = answer.get(ref.id)
        assert seen is None or not seen.state.is_final, f"{h.name}: {fault.effect} {fault.status} became {seen}"
        h.pass_time(10.0)
    h.sandbox.faults.clear()


async def cancel_is_idempotent(h: Harness) -> None:
    """Cancelling twice, and cancelling an ended run, is no error; a vendor that can cancel shows it."""
    if h.operation.capabilities(h.settings).cancel is CancelSupport.NONE:
        return
    _, ref = await _started(h)
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.RUNNING)
    await h.integration.cancel(ref)
    await h.integration.cancel(ref)
    seen = await _observe(h, ref, until=lambda seen: seen.state.is_final)
    assert seen.state is ExternalState.CANCELLED, f"{h.name}: a cancelled run was seen as {seen.state}"
    await h.integration.cancel(ref)


async def refs_survive_a_restart(h: Harness) -> None:
    """A ref that went through JSON polls the same: integrations keep nothing of a run in memory."""
    import json

    _, ref = await _started(h)
    copied = ExternalRef(id=ref.id, data=json.loads(canonical(dict(ref.data))), link=ref.link)
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.SUCCEEDED)
    seen = await _observe(h, copied, until=lambda seen: seen.state.is_final)
    assert seen.state is ExternalState.SUCCEEDED, f"{h.name}: after a restart a success was seen as {seen.state}"


async def secrets_stay_inside(h: Harness) -> None:
    """The connection's secret is in no ref, no baseline, no error and no log excerpt."""
    request, ref = await _started(h)
    baseline = request.baseline or Baseline()
    texts = [canonical(dict(ref.data)), ref.id, ref.link or "", canonical(dict(baseline.data)), repr(h.integration)]
    h.sandbox.faults.add(
        Fault(effect=Effect.ERROR, path=h.read_path, status=500, times=2, body=f"echo {h.secret}".encode())
    )
    try:
        await h.integration.poll([ref])
    except IntegrationError as error:
        texts.append(str(error))
    h.sandbox.faults.clear()
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.FAILED)
    seen = await _observe(h, ref, until=lambda seen: seen.state.is_final)
    texts.append(repr(seen))
    texts.extend((await h.integration.logs(ref)).lines)
    texts.append((await h.integration.check()).message)
    for text in texts:
        assert h.secret not in text, f"{h.name}: the secret is in {text[:200]!r}"


async def keys_are_sent_whole(h: Harness) -> None:
    """Where the vendor takes a key or tag, it arrives unchanged, and two attempts carry two keys."""
    if h.operation.capabilities(h.settings).correlation not in {Correlation.KEY, Correlation.TAG}:
        return
    first, _ = await _started(h, attempt_no=1)
    h.pass_time(5.0)
    h.sandbox.advance(h.scope, ExternalState.FAILED)
    h.pass_time(5.0)
    second, _ = await _started(h, attempt_no=2)
    assert [entry.key for entry in h.sandbox.ledger] == [first.key, second.key]


async def check_answers(h: Harness) -> None:
    """`check` says yes on working credentials and, instead of raising, says no with a way out on bad ones."""
    assert (await h.integration.check()).is_ok, f"{h.name}: check fails on a working connection"
    if not h.extra.get("has_remote_check", True):
        return
    h.sandbox.faults.add(Fault(effect=Effect.ERROR, status=401, times=-1))
    health = await h.integration.check()
    assert not health.is_ok, f"{h.name}: check is happy with a 401"
    assert health.message
    h.sandbox.faults.clear()


CHECKS: tuple[Check, ...] = (
    starts_once_and_succeeds,
    failure_has_a_class_and_words,
    every_word_is_mapped,
    unknown_word_is_unrecognised,
    lost_answer_is_ambiguous_then_found,
    lost_request_is_not_found,
    errors_while_finding_are_unknown,
    refusals_are_classed,
    unreadable_starts_are_ambiguous,
    bad_polls_decide_nothing,
    cancel_is_idempotent,
    refs_survive_a_restart,
    secrets_stay_inside,
    keys_are_sent_whole,
    check_answers,
)
"""Every check, in the order in which a new integration best meets them."""
