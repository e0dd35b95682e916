"""The folder of a run: what counts as one, and what clearing it leaves alone."""

import json
import shutil
from pathlib import Path

import pytest
from made_adaptation import make_adapted
from made_run import make_run
from unloaded import publish, publish_adapted

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.adapted_report import load_report
from hubq.records.run_folder import PLAN, clear, is_locked, locked, require_run

MINE = ("notes.txt", ".git/HEAD", "images/me.png", "hubq/mine.txt", "adapted/notes.txt")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a finished run's folder."""
    make_run(tmp_path / "run")
    return tmp_path / "run"


def held(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("plan", ["not JSON", "[]", "{}", '{"resource_changes": []}'])
def test_a_file_that_is_called_like_a_plan_makes_no_run(tmp_path: Path, plan: str) -> None:
    (tmp_path / PLAN).write_text(plan)

    with pytest.raises(UserError, match="not a run folder"):
        require_run(tmp_path)


def test_what_a_kill_leaves_of_a_first_plan_is_a_run_that_may_begin(tmp_path: Path) -> None:
    (tmp_path / f"{PLAN}.partial").write_text('{"reci')

    require_run(tmp_path)


def test_a_plan_of_another_version_makes_a_run(run: Path) -> None:
    plan = json.loads((run / PLAN).read_text())
    (run / PLAN).write_text(json.dumps({**plan, "unheard_of": 1}))

    require_run(run)


def test_all_that_a_published_run_holds_is_cleared_but_the_plan(
    client: Client, tmp_path: Path
) -> None:  # over a second: it publishes
    report = make_run(tmp_path / "run")
    publish(report, tmp_path / "run", client)

    clear(tmp_path / "run")

    assert [path.name for path in (tmp_path / "run").iterdir()] == [PLAN]


def test_what_was_adapted_in_a_run_is_cleared_with_it(client: Client, tmp_path: Path) -> None:
    run = tmp_path / "run"
    publish_adapted(make_adapted(run, make_run(run)), run, client)

    clear(run)

    assert [path.name for path in run.iterdir()] == [PLAN]


def test_clearing_leaves_what_the_user_put_there(run: Path) -> None:
    make_adapted(run, load_report(run / "report.json"))
    for name in MINE:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("precious")

    clear(run)

    assert held(run) == {PLAN, *MINE}


def test_a_stranger_in_the_model_stops_the_clearing_before_anything_goes(run: Path) -> None:
    (run / "model" / "thesis.txt").write_text("years of work")
    before = held(run)

    with pytest.raises(UserError, match=r"did not write \(thesis.txt\)"):
        clear(run)

    assert held(run) == before


@pytest.mark.parametrize("name", ["model", "blocks", "images"])
def test_what_a_link_leads_to_is_not_cleared(run: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "bits.png").write_text("precious")
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(elsewhere)

    clear(run)

    assert held(elsewhere) == {"bits.png"}


def test_a_run_folder_may_be_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)

    clear(tmp_path / "link")

    assert held(run) == {PLAN}


def test_a_folder_that_is_in_use_is_known_without_taking_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        in_use = is_locked(tmp_path)

    assert in_use
    assert not is_locked(tmp_path)
