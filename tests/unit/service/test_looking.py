"""What needs no run: settings and their origins, checks, drawings, scaffolds, and JSON that stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from conductor.config import SETTINGS, Origin, read_settings
from conductor.core.errors import ConflictError, DefinitionError
from conductor.loader.plugins import load_plugins
from conductor.loader.project import load_project
from conductor.service import doctor
from conductor.service.asks import TriggerAsk
from conductor.service.document import document
from conductor.service.graph import GraphFormat, draw
from conductor.service.picture import usual
from conductor.service.scaffold import Template, files_of, project_name, write_project
from conductor.service.watch import watch
from conductor.store import Store
from tests.unit.service.projects import Home, example


def settings(
    flags: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None, file: Mapping[str, str] | None = None
) -> Mapping[str, tuple[str, Origin, str]]:
    found = read_settings(flags=flags or {}, variables=env or {}, file=file or {}, cwd=Path("/"))
    return {name: (one.value, one.origin, one.place) for name, one in found.by_name.items()}


def test_a_flag_beats_the_environment_which_beats_the_file() -> None:
    flags, env, file = (
        {"store.url": "sqlite:///f"},
        {"CONDUCTOR_STORE_URL": "sqlite:///e"},
        {"store.url": "sqlite:///y"},
    )
    assert settings(flags, env, file)["store.url"] == ("sqlite:///f", Origin.FLAG, "--store")
    assert settings({}, env, file)["store.url"] == ("sqlite:///e", Origin.ENV, "CONDUCTOR_STORE_URL")
    assert settings({}, {}, file)["store.url"] == ("sqlite:///y", Origin.FILE, "conductor.yml")
    assert settings()["store.url"][1] is Origin.DEFAULT


@pytest.mark.parametrize(
    ("env", "value"),
    [
        ({"NO_COLOR": "1"}, "never"),
        ({"FORCE_COLOR": "1"}, "always"),
        ({"FORCE_COLOR": "0"}, "never"),
        ({"CI": "true"}, "never"),
        ({"CI": "false"}, "auto"),
        ({"NO_COLOR": ""}, "auto"),
        ({"CONDUCTOR_COLOR": "always", "NO_COLOR": "1"}, "always"),
    ],
)
def test_colour_follows_the_variables_that_other_tools_use(env: Mapping[str, str], value: str) -> None:
    assert settings(env=env)["color"][0] == value


@pytest.mark.parametrize("env", [{"CONDUCTOR_COLOR": "red"}, {"CONDUCTOR_LOG_LEVEL": "x"}])
def test_a_value_that_is_not_accepted_names_the_variable(env: Mapping[str, str]) -> None:
    with pytest.raises(DefinitionError, match=next(iter(env))):
        settings(env=env)


def test_every_setting_is_described_and_has_its_own_variable() -> None:
    assert all(spec.summary and spec.env[0].startswith("CONDUCTOR_") for spec in SETTINGS.values())


def test_the_project_is_found_upwards(tmp_path: Path) -> None:
    (tmp_path / "conductor.yml").touch()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert read_settings(flags={}, variables={}, file={}, cwd=below).project == tmp_path.resolve()


@pytest.mark.parametrize("template", list(Template))
def test_every_template_validates(tmp_path: Path, template: Template) -> None:
    write_project(tmp_path, files_of(template, name=project_name(tmp_path)))
    project = load_project(tmp_path, plugins=load_plugins().by_kind, environment={})
    assert [one.message for one in project.diagnostics] == []
    assert len(project.plans) == 1


def test_a_scaffold_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "conductor.yml").write_text("mine", encoding="utf-8")
    with pytest.raises(ConflictError, match="nothing was written"):
        write_project(tmp_path, files_of(Template.HELLO, name="x"))
    assert [path.name for path in tmp_path.iterdir()] == ["conductor.yml"]


@pytest.mark.parametrize(("folder", "name"), [("My Data!", "my_data"), ("", "project"), ("ok-1", "ok-1")])
def test_a_project_gets_a_name_that_is_accepted(tmp_path: Path, folder: str, name: str) -> None:
    assert project_name(tmp_path / folder if folder else Path("/")) == name


@pytest.mark.parametrize(
    ("form", "has"),
    [(GraphFormat.ASCII, "b  fake.job  <- a"), (GraphFormat.MERMAID, "n0 --> n1"), (GraphFormat.DOT, '"a" -> "b"')],
)
def test_a_graph_shows_every_edge(form: GraphFormat, has: str) -> None:
    drawn = draw(example(), form)
    assert has in drawn
    assert drawn.endswith("\n")


def test_durations_are_usual_only_after_five_runs() -> None:
    assert usual({"a": [1.0] * 4, "b": [1.0, 2.0, 3.0, 4.0, 90.0]}) == {"b": 3.0}


def test_documents_hold_json_only(tmp_path: Path) -> None:
    body = document("x", {"at": timedelta(0), "path": tmp_path, "set": frozenset({1}), "form": GraphFormat.DOT})
    assert (body["version"], body["kind"], body["path"], body["set"], body["form"]) == (
        1,
        "x",
        str(tmp_path),
        [1],
        "dot",
    )


def test_a_clock_that_was_set_back_is_noticed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    try:
        asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p")))
        now = home.clock.now()
        assert doctor.check_clock(home.reads, now=now).grade is doctor.Grade.OK
        assert doctor.check_clock(home.reads, now=now - timedelta(hours=1)).grade is doctor.Grade.BAD
    finally:
        home.close()


def test_a_database_is_checked_page_by_page(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    assert "none yet" in doctor.check_database(url)[0].message
    Store.open(url).close()
    assert [one.grade for one in doctor.check_database(url, is_deep=True)] == [doctor.Grade.OK, doctor.Grade.OK]
    (tmp_path / "c.db").write_bytes(b"no database at all" * 500)
    assert doctor.check_database(url)[0].grade is doctor.Grade.BAD


def test_secrets_that_are_not_set_are_bad(tmp_path: Path) -> None:
    assert doctor.check_secrets([])[0].grade is doctor.Grade.OK
    assert doctor.check_secrets([("secret X is not set", "set X")])[0].help == "set X"
    assert doctor.check_disk(tmp_path / "not" / "there").name == "disk"


def test_watching_ends_when_the_time_is_up_and_says_what_is_new_once(tmp_path: Path) -> None:
    home = Home(tmp_path)

    async def look() -> tuple[list[int], bool]:
        run_id = (await home.actions().trigger(TriggerAsk(pipeline="p"))).run_id
        seen = [glance async for glance in watch(home.reader(), run_id, clock=home.clock, timeout_s=5.0)]
        return [len(glance.news) for glance in seen], seen[-1].is_last

    try:
        news, is_last = asyncio.run(look())
    finally:
        home.close()
    assert news[0] == 1
    assert sum(news) == 1
    assert is_last
