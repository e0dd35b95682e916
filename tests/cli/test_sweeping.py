"""`hubq sweep`, `hubq plan` of a matrix, and the process that a member of a sweep is."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command_line import hubq

from hubq.cli.member import run
from hubq.records.run_folder import locked
from hubq.records.sweep import MemberRecord
from hubq.stages.sweep.news import News, Telling


@pytest.fixture(autouse=True)
def _columns(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def matrix(own_folder: Path, tiny_model: Callable[[str], Path]) -> Path:
    """Write a matrix of two widths for a tiny model, without measurements."""
    values = {
        "model": {"folder": str(tiny_model("llama")), "base_model": "acme/tiny"},
        "matrix": {"method": {"name": "rtn", "bits": [4, 3], "group_size": 32}},
        "publish": {"org": "acme"},
    }
    path = own_folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_plan_of_a_matrix_is_a_table_with_its_sums(matrix: Path, own_folder: Path) -> None:
    said = hubq("plan", matrix, "--price-per-hour", "3").output

    lines = [line.rstrip() for line in said.splitlines()]
    assert re.match(r"recipe +method +bits +stored +size +time +memory +repo", lines[0])
    assert re.match(r"mine-rtn_4bit +rtn +4 +4\.649 .* acme/tiny-RTN-4bit", lines[2])
    assert re.match(r"mine-rtn_3bit +rtn +3 +3\.\d{3} .* acme/tiny-RTN-3bit", lines[3])
    facts = [line.split()[0] for line in lines[4:]]
    assert facts == ["recipes", "on", "storage", "memory", "time", "money"]
    assert lines[-1].endswith("at 3 an hour")
    assert not (own_folder / "runs").exists()


def test_the_plan_of_a_matrix_as_json_has_each_plan(matrix: Path) -> None:
    told = json.loads(hubq("plan", matrix, "--json", "--for", "h100").stdout)

    assert list(told["members"]) == ["mine-rtn_4bit", "mine-rtn_3bit"]
    sums, plans = told["totals"], list(told["members"].values())
    assert sums["published"] == sum(plan["bytes"] for plan in plans)
    assert sums["money"] is None
    times = [sum(sum(parts.values()) for parts in p["estimate"]["seconds"].values()) for p in plans]
    assert sums["seconds"] == pytest.approx(sum(times), abs=0.1)


@pytest.mark.parametrize("command", ["quantize", "evaluate", "publish", "card"])
def test_a_command_for_one_recipe_says_what_to_do_with_a_matrix(command: str, matrix: Path) -> None:
    result = hubq(command, matrix)

    assert result.exit_code == 1
    assert f"Make them with: hubq sweep {matrix}" in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("plan", "mine.yaml", "--fresh"), "a matrix has no run folder"),
        (("sweep",), "name a recipe or a matrix, or use --status"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_use(
    words: tuple[str, ...], sentence: str, matrix: Path
) -> None:
    result = hubq(*words)

    assert matrix.exists()
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_the_status_of_no_sweep_is_a_message() -> None:
    assert "no sweep was begun here" in hubq("sweep", "--status").stderr
    assert "there is no sweep x in " in hubq("sweep", "--status", "--name", "x").stderr


def test_a_sweep_goes_on_where_one_failed(matrix: Path, own_folder: Path) -> None:
    """Three processes that quantize a tiny model, five seconds each."""
    strange = own_folder / "runs" / "mine-rtn_3bit"
    strange.mkdir(parents=True)
    (strange / "thesis.txt").write_text("years of work")
    command = ("sweep", matrix, "--stage", "quantize", "--at-once", 2)

    failed = hubq(*command)
    (strange / "thesis.txt").unlink()
    status = hubq("sweep", "--status")
    again = hubq(*command, "--json")

    assert failed.exit_code == 1
    assert "1 of 2 recipes are not done:\nmine-rtn_3bit" in failed.stderr
    assert "it is not a run folder" in failed.stderr
    assert (
        "again: hubq quantize sweeps/mine/recipes/mine-rtn_3bit.yaml --run runs/mine-rtn_3bit"
    ) in failed.stderr
    assert re.search(r"mine-rtn_4bit +done", status.output)
    assert re.search(r"mine-rtn_3bit +failed", status.output)
    assert f"No process works at it: hubq sweep {matrix} goes on" in status.output
    assert again.exit_code == 0, again.output
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert {each["name"] for each in events} == {"mine-rtn_3bit"}
    assert (events[0]["event"], events[-1]["event"]) == ("started", "done")
    assert events[-1]["stage"] == "quantize"
    for name in ("mine-rtn_4bit", "mine-rtn_3bit"):
        assert (own_folder / "runs" / name / "checkpoint.json").is_file()
        record = own_folder / "sweeps" / "mine" / "members" / f"{name}.json"
        assert MemberRecord.load(record).state == "done"


def test_a_sweep_that_another_process_is_at_is_refused(matrix: Path) -> None:
    with locked(Path("sweeps/mine")):
        result = hubq("sweep", matrix)

    assert result.exit_code == 1
    assert "another hubq process is using sweeps/mine" in result.stderr


def told(words: list[str], folder: Path) -> News:
    """Return what a member tells that runs these words."""
    run(words, Telling(folder / "events"))
    news = News(folder / "events")
    news.read()
    return news


def test_a_member_tells_that_a_taken_run_folder_passes_by_itself(
    matrix: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "one.yaml"
    values = yaml.safe_load(matrix.read_text())
    values |= {"method": "rtn"}
    del values["matrix"]
    recipe.write_text(yaml.safe_dump(values))
    with locked(Path("runs/one")):
        news = told(["quantize", str(recipe)], tmp_path)

    assert news.passes
    assert news.message.startswith("another hubq process is using runs/one.")


def test_a_member_tells_that_a_mistake_does_not_pass(matrix: Path, tmp_path: Path) -> None:
    news = told(["quantize", str(matrix)], tmp_path)

    assert not news.passes
    assert "makes several recipes" in news.message


def test_a_member_is_interrupted_when_its_parent_is_gone(tmp_path: Path) -> None:
    # A real process, while it reads a recipe that never ends: two seconds.
    endless, events = tmp_path / "endless.yaml", tmp_path / "events"
    os.mkfifo(endless)
    command = [sys.executable, "-m", "hubq.cli.member", str(events), "quantize", str(endless)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as member,
        endless.open("w"),  # returns when the process has opened it too
    ):
        assert member.stdin is not None
        member.stdin.close()

        assert member.wait(60) == 130
    news = News(events)
    news.read()
    assert news.message == "it was interrupted"
