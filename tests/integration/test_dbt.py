"""The real dbt with DuckDB, as the engine would drive it: a failure with its SQL, a resume, stale and empty runs.

Each dbt command takes seconds, so one project goes through five of them, in order, in one fixture.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from conductor.core.errors import ErrorClass
from conductor.core.keys import attempt_key
from conductor.core.vendor import ExternalRef, ExternalState, Json, Observation, Request
from conductor.sdk.testing import FakeClock, context_for
from integrations.dbt import plugin
from integrations.dbt.config import Connection
from integrations.dbt.integration import Dbt, build

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("dbt") is None, reason="dbt-core is not installed (extra `dbt`)"),
    pytest.mark.xdist_group("dbt"),
]

FILES = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models]\nseed-paths: [seeds]\n",
    "profiles.yml": "shop:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: shop.duckdb, threads: 2}\n",
    "seeds/raw_orders.csv": "id,amount\n1,10\n2,20\n2,30\n",
    "models/orders.sql": "select id, amount from {{ ref('raw_orders') }}\n",
    "models/totals.sql": "select sum(amount) as total from {{ ref('orders') }}\n",
    "models/schema.yml": """
models:
  - name: orders
    columns:
      - name: id
        data_tests: [not_null, {unique: {config: {where: "{{ var('only', '1 = 1') }}"}}}]
sources:
  - name: raw
    schema: main
    tables:
      - name: raw_orders
        config:
          loaded_at_field: "timestamp '2020-01-01'"
          freshness: {error_after: {count: 1, period: day}}
      - name: nowhere
        config: {loaded_at_field: at, freshness: {warn_after: {count: 1, period: day}}}
""",
}


class Story:
    """One dbt project and the attempts on it."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "shop"
        for name, text in FILES.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.state = folder / "state"
        self.integration = self._build()
        self.seen: dict[str, Observation] = {}

    def run(
        self, name: str, operation: str, settings: Mapping[str, Json], *, resume: ExternalRef | None = None
    ) -> ExternalRef:
        """Start, forget everything but the ref, wait for the end, look."""
        model = plugin.operations[operation].settings.model_validate(dict(settings))
        request = Request(
            key=attempt_key(run="run-1", node=name, attempt_no=1),
            operation=operation,
            settings=model.model_dump(mode="json"),
            resume=resume,
        )
        ref = asyncio.run(self.integration.start(request))
        running = asyncio.run(self.integration.poll([ref]))[ref.id]
        assert running.state is ExternalState.RUNNING
        with (self.state / "children" / ref.id / "alive").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        self.integration = self._build()
        self.seen[name] = asyncio.run(self.integration.poll([ref]))[ref.id]
        return ref

    def outputs(self, name: str) -> Mapping[str, Json]:
        """What the node gave to others, checked against its model."""
        return plugin.operations["core_build"].outputs.model_validate(dict(self.seen[name].outputs)).model_dump()

    def _build(self) -> Dbt:
        async def no_wire(*_args: object) -> None:
            return None

        context = context_for(no_wire, clock=FakeClock(), state_dir=self.state, project_dir=self.project)
        return build(context, Connection())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    told = Story(tmp_path_factory.mktemp("dbt"))
    failed = told.run("failing", "core_build", {})
    # The data is mended in place: the same request, and dbt retry tests what is in the table now.
    (told.project / "models/schema.yml").write_text(FILES["models/schema.yml"].replace("1 = 1", "amount < 30"))
    told.run("resumed", "core_build", {}, resume=failed)
    told.run("empty", "core_build", {"select": "no_such_model"})
    told.run("stale", "core_source_freshness", {})
    (told.project / "models/bad.sql").write_text("select {{ nope( }}")
    told.run("broken", "core_run", {})
    return told


def test_a_failing_test_names_itself_its_message_and_its_sql(story: Story) -> None:
    seen, outputs = story.seen["failing"], story.outputs("failing")
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.DATA
    assert "unique_orders_id: Got 1 result, configured to fail if != 0" in seen.error.message
    assert seen.error.detail is not None
    assert "count(*) as n_records" in seen.error.detail
    assert (outputs["exit_code"], outputs["total"], outputs["failed"], outputs["skipped"]) == (1, 5, 1, 1)
    assert isinstance(outputs["failures"], list)
    assert outputs["failures"][0]["compiled_path"].endswith("unique_orders_id.sql")
    assert seen.started_at is not None
    assert seen.ended_at is not None


def test_a_resume_runs_only_what_failed_or_was_skipped(story: Story) -> None:
    seen, outputs = story.seen["resumed"], story.outputs("resumed")
    assert seen.state is ExternalState.SUCCEEDED, seen
    assert outputs["total"] == 2
    assert isinstance(outputs["nodes"], list)
    assert {node["unique_id"].split(".")[2] for node in outputs["nodes"]} == {"unique_orders_id", "totals"}
    assert outputs["resumed_from"] == attempt_key(run="run-1", node="failing", attempt_no=1)


def test_a_selection_that_matches_nothing_is_a_warning(story: Story) -> None:
    seen = story.seen["empty"]
    assert seen.state is ExternalState.WARNED
    assert "matches no node" in (seen.message or "")


def test_a_stale_source_and_one_that_crashed_are_both_told(story: Story) -> None:
    seen, outputs = story.seen["stale"], story.outputs("stale")
    assert seen.state is ExternalState.FAILED
    assert outputs["counts"] == {"error": 1, "runtime error": 1}
    assert "days old" in (seen.message or "")
    assert "raw.nowhere" in (seen.message or "")


def test_a_project_that_does_not_compile_is_a_matter_of_configuration(story: Story) -> None:
    seen = story.seen["broken"]
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.CONFIG
    assert "Compilation Error in model bad" in seen.error.message


def test_the_log_is_told_as_lines_and_progress_is_read_on_from_the_ref(story: Story) -> None:
    ref = ExternalRef(id=attempt_key(run="run-1", node="failing", attempt_no=1))
    lines = asyncio.run(story.integration.logs(ref)).lines
    assert any("FAIL 1 unique_orders_id" in line for line in lines)
    assert not any(line.startswith("{") for line in lines)
    view = replace(story.integration._children.look(ref.id), exit=None)
    seen = story.integration._progress(ref, Observation(state=ExternalState.RUNNING), view)
    assert seen.progress == 1.0
    assert seen.ref is not None
    assert seen.ref.data["done"] == seen.ref.data["total"] == 5
    again = story.integration._progress(seen.ref, Observation(state=ExternalState.RUNNING), view)
    assert again.ref is None
