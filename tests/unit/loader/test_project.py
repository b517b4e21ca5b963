"""A project loads whole, without the network and without secrets; secrets come late, and never show."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from conductor.core.errors import DefinitionError, NotFoundError
from conductor.loader.diagnostics import Severity, render_json, render_text
from conductor.loader.project import Project, load_project
from conductor.loader.secrets import DirectorySecrets
from tests.unit.loader.fakes import PLUGINS, Account

CANARY = "c4n4ry-s3cret-value"
PROJECT = """
version: 1
name: acme
pools: {heavy: 2}
defaults: {retries: 2, timeout: {queued: 5m}}
connections: {max_parallel: "${{ env_var('PARALLEL', '3') }}"}
store: {url: "postgresql://u:${{ secret('PG') }}@h/d"}
"""
CONNECTIONS = """
main:
  type: vendor
  max_parallel: 5
  api_key: ${{ secret('KEY') }}
  base_url: https://${{ env_var('HOST', 'vendor.example') }}/v1
"""
PIPELINE = """
version: 1
name: p
defaults: {retries: {delay: 5s}}
nodes:
  a: {uses: vendor.sync, with: {target: t}, pools: [heavy]}
"""


def project(
    tmp_path: Path,
    *,
    environment: dict[str, str] | None = None,
    conductor: str = PROJECT,
    connections: str = CONNECTIONS,
    pipeline: str = PIPELINE,
) -> Project:
    texts = {"conductor.yml": conductor, "connections.yml": connections, "pipelines/p.yml": pipeline}
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_project(tmp_path, plugins=PLUGINS, environment=environment or {})


def test_a_project_loads_and_its_defaults_are_part_of_each_version(tmp_path: Path) -> None:
    loaded = project(tmp_path)
    loaded.require_ok()
    assert loaded.is_ok
    assert loaded.files == {"p": "pipelines/p.yml"}
    assert loaded.connections["main"].max_parallel == 5
    assert (loaded.pools, loaded.settings.connections.max_parallel) == ({"heavy": 2}, 3)
    plan = loaded.plans["p"]
    assert (plan.nodes["a"].retries.attempts, plan.nodes["a"].retries.delay_s) == (2, 5)
    assert plan.definition["defaults"] == {"retries": {"attempts": 2, "delay": "5s"}, "timeout": {"queued": "5m"}}


def test_secrets_join_when_a_connection_is_resolved(tmp_path: Path) -> None:
    loaded = project(tmp_path, environment={"KEY": CANARY, "HOST": "eu.vendor.example", "PG": "pw", "PORT": "1"})
    resolved = loaded.resolve("main")
    assert resolved.settings == Account(api_key=SecretStr(CANARY), base_url="https://eu.vendor.example/v1")
    assert resolved.secrets == (CANARY,)
    assert CANARY not in repr(resolved)
    assert CANARY not in repr(loaded)
    assert loaded.resolve_settings().store.url == "postgresql://u:pw@h/d"
    assert loaded.resolve_connection("local") is not None
    with pytest.raises(NotFoundError, match="connection `other` cannot be used"):
        loaded.resolve_connection("other")


def test_a_missing_secret_is_named_with_its_place_and_how_to_set_it(tmp_path: Path) -> None:
    loaded = project(tmp_path)
    missing = loaded.missing_secrets()
    assert [(found.path, found.line, found.severity) for found in missing] == [
        ("conductor.yml", 7, "warning"),
        ("connections.yml", 5, "warning"),
    ]
    assert "secret `KEY` is not set" in missing[1].message
    assert "environment variable KEY or the file /run/secrets/KEY" in missing[1].help
    assert loaded.missing_secrets(severity=Severity.ERROR)[0].severity is Severity.ERROR
    with pytest.raises(DefinitionError, match="connection `main` cannot be used: secret `KEY` is not set; set"):
        loaded.resolve_connection("main")


def test_a_secret_that_does_not_fit_is_refused_without_showing_it(tmp_path: Path) -> None:
    loaded = project(
        tmp_path,
        connections="main: {type: vendor, api_key: x, hosts: \"${{ secret('KEY') }}\"}",
        environment={"KEY": CANARY},
    )
    with pytest.raises(DefinitionError, match="`hosts`: expected a mapping") as caught:
        loaded.resolve_connection("main")
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "connections",
    [
        f"main: {{type: vendor, api_key: {CANARY}}}",
        f"main: {{type: vendor, api_key: '{CANARY}', extra: '{CANARY}'}}",
        f"main: {{type: vendor, api_key: \"${{{{ secret('K') }}}}\", hosts: {{a: {CANARY}, b: 3}}}}",
        f"main: {{type: vndor, api_key: {CANARY}}}",
        f"main: {{api_key: {CANARY}}}",
        f"main: {{type: vendor, api_key: \"${{{{ secret('K') }}}}\", base_url: 'https://u:{CANARY}@h'}}",
    ],
)
def test_a_secret_written_out_is_refused_and_shown_nowhere(connections: str, tmp_path: Path) -> None:
    loaded = project(tmp_path, connections=connections)
    assert "CND041" in {found.code for found in loaded.diagnostics}
    shown = render_text(loaded.diagnostics) + str(render_json(loaded.diagnostics)) + repr(loaded.diagnostics)
    with pytest.raises(DefinitionError) as caught:
        loaded.require_ok()
    for form in (CANARY, base64.b64encode(CANARY.encode()).decode()):
        assert form not in shown + str(caught.value)


def test_a_secret_in_a_pipeline_is_refused_and_shown_nowhere(tmp_path: Path) -> None:
    text = f"version: 1\nname: p\nnodes:\n  a: {{uses: vendor.sync, with: {{target: t, token: {CANARY}, rows: x}}}}\n"
    loaded = project(tmp_path, pipeline=text)
    assert {found.code for found in loaded.diagnostics} == {"CND002", "CND004", "CND040"}
    assert CANARY not in render_text(loaded.diagnostics)


def test_one_wrong_field_does_not_make_everything_else_wrong(tmp_path: Path) -> None:
    loaded = project(tmp_path, conductor=PROJECT.replace("'3'", "'many'"))
    assert [(found.code, found.path) for found in loaded.diagnostics] == [("CND004", "conductor.yml")]
    broken = project(tmp_path, connections="main: [")
    assert [found.path for found in broken.diagnostics] == ["connections.yml"]


def test_files_outside_the_project_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside.yml").write_text(PIPELINE, encoding="utf-8")
    inside = tmp_path / "inside"
    (inside / "pipelines").mkdir(parents=True)
    (inside / "pipelines" / "link.yml").symlink_to(tmp_path / "outside.yml")
    assert "p" not in project(inside, pipeline=PIPELINE.replace("name: p", "name: q")).plans
    for pattern in ("../*.yml", "/etc/*.yml", "**/../../*.yml"):
        loaded = project(inside, conductor=f"version: 1\nname: x\npools: {{heavy: 1}}\npipelines: ['{pattern}']\n")
        assert loaded.plans == {}
        assert not loaded.is_ok


def test_secrets_from_a_folder_never_leave_it(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "KEY").write_text(f"{CANARY}\n", encoding="utf-8")
    (folder / "EMPTY").write_text("\n", encoding="utf-8")
    (tmp_path / "OUTSIDE").write_text("x", encoding="utf-8")
    source = DirectorySecrets(folder)
    assert source.get("KEY") == CANARY
    assert [source.get(name) for name in ("EMPTY", "NONE", "../OUTSIDE", "/etc/hostname", "", ".")] == [None] * 6
