"""Every code is raised by some input, at the right place; and no code is dead."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from conductor.loader.codes import CODES
from conductor.loader.diagnostics import Diagnostic, render_text
from conductor.loader.plugins import load_plugins
from conductor.loader.project import load_project
from tests.unit.loader.fakes import PLUGINS, load, pipeline

SYNC = "{uses: vendor.sync, with: {target: t}}"
A = f"  a: {SYNC}\n"


def only_b(rest: str) -> str:
    return f"  b: {{uses: vendor.sync, with: {{target: t}}, {rest}}}\n"


def b(rest: str) -> str:
    return A + only_b(rest)


def with_(value: str) -> str:
    return f"{A}  b:\n    uses: vendor.sync\n    depends_on: [a]\n    with: {{target: {value}}}\n"


# code, text, the underlined part (empty where the whole file is meant)
TEXTS = [
    ("CND001", "a: [1", ""),
    ("CND001", "\xff", None),
    ("CND002", pipeline(b("needs: [a]")), "needs"),
    ("CND002", pipeline(A, "nod: 1\n"), "nod"),
    ("CND003", pipeline("  a: {with: {target: t}}\n"), "a"),
    ("CND003", pipeline("  a: {uses: vendor.sync, with: {rows: 1}}\n"), "with"),
    ("CND004", pipeline("  a: {uses: vendor}\n"), "vendor"),
    ("CND004", pipeline(A, "tags: x\n"), "x"),
    ("CND004", pipeline(b("retries: {attempts: true}")), "true"),
    ("CND004", "version: 99999999999999999999\n", "99999999999999999999"),
    ("CND005", "version: 1\nversion: 1\n", "version"),
    ("CND006", "a: &b 1\n", "&b 1"),
    ("CND006", "a: !!str 1\n", "!!str 1"),
    ("CND006", "<<: 1\n", "<<"),
    ("CND006", "a: 1\n--- \nb: 1\n", None),
    ("CND006", "[a]: 1\n", "["),
    ("CND007", "[" * 65 + "]" * 65, "["),
    ("CND008", pipeline(b("for_each: [1]")), "for_each"),
    ("CND008", pipeline(A, "sla: []\n"), "sla"),
    ("CND010", pipeline("  A b: " + SYNC + "\n"), "A b"),
    ("CND010", pipeline("  \u0430bc: " + SYNC + "\n"), "\u0430bc"),  # a Cyrillic letter
    ("CND010", pipeline(A, "params: {a-b: 1}\n"), "a-b"),
    ("CND011", pipeline(b("timeout: 45")), "45"),
    ("CND011", pipeline(b("timeout: PT45M")), "PT45M"),
    ("CND011", pipeline(b("timeout: 0s")), "0s"),
    ("CND011", pipeline(A, "run_timeout: 999d\n"), "999d"),
    ("CND012", pipeline(A, 'schedule: "0 0 31 2 *"\n'), '"0 0 31 2 *"'),
    ("CND012", pipeline(A, 'schedule: {cron: "* * * * * *"}\n'), '"* * * * * *"'),
    ("CND012", pipeline(A, 'schedule: "@daily"\n'), '"@daily"'),
    ("CND013", pipeline(A, "timezone: Europe/Pariss\n"), "Europe/Pariss"),
    ("CND013", pipeline(A, 'schedule: {cron: "0 6 * * *", timezone: "+01:00"}\n'), '"+01:00"'),
    ("CND014", pipeline(A, "params: {a: {type: integer, default: x}}\n"), "x"),
    ("CND014", pipeline(A, "params: {a: null}\n"), "null"),
    ("CND014", pipeline(A, 'schedule: "0 6 * * *"\nparams: {a: {type: string}}\n'), "a"),
    ("CND020", pipeline(b("depends_on: [aa]")), "aa"),
    ("CND021", pipeline(f"  a: {SYNC[:-1]}, depends_on: [b]}}\n" + only_b("depends_on: [a]")), "b"),
    ("CND022", pipeline(b("depends_on: [b]")), "b"),
    ("CND023", pipeline(b("depends_on: [a, a]")), "a"),
    ("CND024", pipeline(b("trigger_rule: one_failed")), "one_failed"),
    (
        "CND024",
        pipeline(f"  a: {SYNC[:-1]}, on_failure: warn}}\n" + only_b("depends_on: [a], trigger_rule: all_failed")),
        "all_failed",
    ),
    ("CND025", pipeline(b("if: false")), "false"),
    ("CND025", pipeline(b("if: '${{ 1 == 2 }}'")), "'${{ 1 == 2 }}'"),
    ("CND030", pipeline("  a: {uses: vendr.sync}\n"), "vendr.sync"),
    ("CND031", pipeline("  a: {uses: vendor.snc}\n"), "vendor.snc"),
    ("CND033", pipeline(b("connection: mian")), "mian"),
    ("CND036", pipeline(b("pools: [heavi]")), "heavi"),
    ("CND036", pipeline(A, "defaults: {pools: [light]}\n"), "light"),
    ("CND037", pipeline("  a: {uses: vendor.fire, with: {target: t}}\n"), "vendor.fire"),
    ("CND038", pipeline(b("delivery: effectively_once")), "effectively_once"),
    ("CND040", pipeline(with_("AKIAABCDEFGHIJKLMNOP")), None),
    ("CND040", pipeline(A, "params: {password: hunter2}\n"), None),
    ("CND043", pipeline(with_("\"${{ secret('x') }}\"")), "secret"),
    ("CND050", pipeline(with_('"x ${{ 1 + }}"')), None),
    ("CND050", pipeline(with_('"${{ run.id"')), None),
    ("CND050", pipeline(b("if: 'run.attempt > 1'")), None),
    ("CND050", pipeline(b("if: 'x ${{ true }}'")), None),
    ("CND051", pipeline(with_('"${{ params.x }}"')), "params.x"),
    ("CND051", pipeline(with_('"${{ run.dat }}"')), "run.dat"),
    ("CND051", pipeline(with_('"${{ nodes.zz.status }}"')), "nodes.zz.status"),
    ("CND051", pipeline(with_('"${{ nodes.a.outputs.row }}"')), "nodes.a.outputs.row"),
    ("CND051", pipeline(with_('"${{ sizes(run.id) }}"')), "sizes"),
    ("CND051", pipeline(with_('"${{ item }}"')), "item"),
    ("CND052", pipeline("  c: " + SYNC + "\n" + with_('"${{ nodes.c.status }}"')), "nodes.c.status"),
    ("CND052", pipeline(with_('"${{ nodes.b.status }}"')), "nodes.b.status"),
    ("CND053", pipeline(with_('"${{ run.attempt + run.id }}"')), "run.attempt + run.id"),
    ("CND054", pipeline(with_(f'"${{{{ {"1 + " * 130}1 }}}}"')), None),
    ("CND054", pipeline(with_('"${{ [1].map(x, [1].map(y, x)) }}"')), None),
    ("CND055", pipeline(b("depends_on: [a], if: '${{ nodes.a.outputs.rows }}'")), "'${{ nodes.a.outputs.rows }}'"),
]  # fmt: skip


def underlined(diagnostic: Diagnostic) -> str:
    start = diagnostic.column - 1
    return diagnostic.source_line[start : start + diagnostic.length]


@pytest.mark.parametrize(("code", "text", "part"), TEXTS)
def test_a_mistake_in_a_pipeline_gets_its_code_and_place(code: str, text: str, part: str | None) -> None:
    if text == "\xff":
        from conductor.loader.yamlread import read_yaml

        diagnostics = read_yaml(b"\xff", path="p.yml").diagnostics
    else:
        diagnostics = load(text)[1]
    found = [diagnostic for diagnostic in diagnostics if diagnostic.code == code]
    assert found, diagnostics
    if part:
        assert part in {underlined(diagnostic) for diagnostic in found}
    assert f"[{code}]" in render_text(diagnostics)


PROJECTS = [
    ("CND060", {}),
    ("CND061", {"conductor.yml": "version: 1\nname: x\n"}),
    ("CND061", {"conductor.yml": "version: 1\nname: x\npipelines: [../*.yml]\n"}),
    ("CND009", {
        "conductor.yml": "version: 1\nname: x\n",
        "pipelines/a.yml": pipeline(A),
        "pipelines/b.yml": pipeline(A),
    }),
    ("CND032", {"conductor.yml": "version: 1\nname: x\n", "pipelines/a.yml": pipeline(A)}),
    ("CND034", {
        "conductor.yml": "version: 1\nname: x\n",
        "connections.yml": "here: {type: local}\n",
        "pipelines/a.yml": pipeline(b("connection: here")),
    }),
    ("CND041", {"conductor.yml": "version: 1\nname: x\n", "connections.yml": "c: {type: vendor, api_key: k}\n"}),
    ("CND041", {"conductor.yml": "version: 1\nname: x\nstore: {url: 'postgresql://u:pw@h/d'}\n"}),
    ("CND043", {"conductor.yml": "version: 1\nname: x\nstate_dir: ${{ run.id }}\n"}),
    ("CND042", {
        "conductor.yml": "version: 1\nname: x\n",
        "connections.yml": "c: {type: vendor, api_key: \"${{ secret('K') }}\", base_url: \"${{ env_var('U') }}\"}\n",
    }),
]  # fmt: skip


@pytest.mark.parametrize(("code", "files"), PROJECTS)
def test_a_mistake_in_a_project_gets_its_code(code: str, files: dict[str, str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    project = load_project(tmp_path, plugins=PLUGINS, environment={})
    assert code in {diagnostic.code for diagnostic in (*project.diagnostics, *project.missing_secrets())}


@pytest.mark.parametrize("value", ["no_such_module_at_all:plugin", "json:dumps", "tests.unit.loader.fakes:VENDOR"])
def test_a_broken_integration_is_a_warning_and_hides_no_other(value: str) -> None:
    broken = EntryPoint(name="broken", value=value, group="conductor.integrations")
    right = EntryPoint(name="vendor", value="tests.unit.loader.fakes:VENDOR", group="conductor.integrations")
    plugins = load_plugins([broken, right])
    assert [(diagnostic.code, diagnostic.severity) for diagnostic in plugins.diagnostics] == [("CND039", "warning")]
    assert set(plugins.by_kind) == {"vendor"}


def test_no_code_is_dead() -> None:
    raised = {code for code, *_ in TEXTS} | {code for code, _ in PROJECTS} | {"CND039"}
    assert raised == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_title_and_an_explanation(code: str) -> None:
    entry = CODES[code]
    assert entry.title
    assert not entry.title.endswith(".")
    assert len(entry.explanation) > 40
    assert entry.explanation.endswith(".")
    assert entry.severity in {"error", "warning"}
