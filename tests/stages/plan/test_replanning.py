"""A recipe that changed since its run began: words cost no weights."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_hub import FaultyHub
from made_run import made_plan, made_report

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.machine.progress import SILENT
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.stages.plan.plan import plan
from hubq.stages.plan.replanning import shared_out
from hubq.stages.publish.release import measured_files
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")


def recipe_for(folder: Path, **changes: object) -> Recipe:
    values: dict[str, object] = {
        "name": "tiny",
        "model": {"folder": folder},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "evaluate": {"efficiency": None},
        "publish": {"org": "me"},
    }
    return Recipe.model_validate(values | changes)


@pytest.fixture
def llama(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


@pytest.fixture
def run(llama: Path, tmp_path: Path) -> Path:
    """Return a run that was quantized and, as its report says, measured."""
    run = tmp_path / "run"
    planned = plan(recipe_for(llama), run, NOWHERE)
    checkpoint = quantize(planned, run, NOWHERE)
    made_report(plan=planned).model_copy(update={"checkpoint": checkpoint}).save(
        run / "report.json"
    )
    return run


def files(run: Path) -> dict[str, int]:
    return {
        path.relative_to(run).as_posix(): path.stat().st_mtime_ns
        for path in run.rglob("*")
        if path.is_file() and path.suffix != ".json"
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"publish": {"org": "you", "name": "another", "private": False, "gated": "auto"}},
        {"publish": {"org": "me", "license": "mit"}},
        {"name": "renamed"},
        {"evaluate": {"efficiency": None, "require": {"stored_bits": 9}}},
        {"model": {"license": "apache-2.0", "base_model": "acme/base"}},
    ],
    ids=lambda value: next(iter(value)),
)
def test_words_cost_neither_weights_nor_measurements(
    llama: Path, run: Path, changes: dict[str, dict[str, object]]
) -> None:
    weights = sha256_of(run / "model" / "model.safetensors")
    if "model" in changes:
        changes = {"model": {"folder": str(llama), **changes["model"]}}

    planned = plan(recipe_for(llama, **changes), run, NOWHERE)

    assert Plan.load(run / "plan.json") == planned == Report.load(run / "report.json").plan
    assert planned.recipe == recipe_for(llama, **changes).model_dump(mode="json")
    assert sha256_of(run / "model" / "model.safetensors") == weights


def test_other_measurements_keep_the_model(llama: Path, run: Path) -> None:
    before = files(run)

    plan(recipe_for(llama, evaluate={"seed": 3, "efficiency": None}), run, NOWHERE)

    assert files(run) == before
    assert (run / "checkpoint.json").is_file()
    assert not (run / "report.json").exists()


def test_the_blocks_of_a_killed_run_are_kept(llama: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plan(recipe_for(llama), run, NOWHERE)
    (run / "blocks").mkdir()
    (run / "blocks" / "block-00000.safetensors").write_text("work of hours")

    plan(recipe_for(llama, publish={"org": "you", "license": "mit"}), run, NOWHERE)

    assert (run / "blocks" / "block-00000.safetensors").exists()


def test_another_license_renews_the_papers_of_a_finished_model(llama: Path, run: Path) -> None:
    for license, there in (("apache-2.0", True), ("cc0-1.0", False), ("apache-2.0", True)):
        plan(recipe_for(llama, publish={"org": "me", "license": license}), run, NOWHERE)

        report = Report.load(run / "report.json")
        measured_files(report, run / "model", SILENT)  # what is published is what is recorded
        assert (run / "model" / "MODIFICATIONS.txt").exists() == there
        assert Checkpoint.load(run / "checkpoint.json") == report.checkpoint
        assert sum("MODIFICATIONS" in fact for fact in report.checkpoint.facts) == there


def test_a_kill_before_the_plan_is_replaced_is_set_right_by_the_next_call(
    llama: Path, run: Path
) -> None:
    old = (run / "plan.json").read_bytes()
    wanted = recipe_for(llama, publish={"org": "me", "license": "apache-2.0"})
    plan(wanted, run, NOWHERE)
    expected = (run / "report.json").read_bytes()
    (run / "plan.json").write_bytes(old)

    plan(wanted, run, NOWHERE)

    assert (run / "report.json").read_bytes() == expected


def test_a_word_that_is_refused_by_now_can_be_corrected(llama: Path, run: Path) -> None:
    saved = json.loads((run / "plan.json").read_text())
    saved["recipe"]["model"]["base_model"] = "https://huggingface.co/acme/base"
    saved["base_model"] = "https://huggingface.co/acme/base"
    (run / "plan.json").write_text(json.dumps(saved))
    model = {"folder": llama, "base_model": "acme/base"}

    planned = plan(recipe_for(llama, model=model), run, NOWHERE)

    assert planned.base_model == "acme/base"
    assert (run / "checkpoint.json").is_file()


def test_a_full_disk_does_not_stop_a_correction(
    llama: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("usage", (), {"free": 1000}))

    assert plan(recipe_for(llama, publish={"org": "you"}), run, NOWHERE).repo.startswith("you/")


def test_other_weights_are_refused_with_what_differs_in_them_alone(llama: Path, run: Path) -> None:
    changes = {"method": {"name": "rtn", "bits": 3, "group_size": 32}, "publish": {"org": "you"}}

    with pytest.raises(UserError) as caught:
        plan(recipe_for(llama, **changes), run, NOWHERE)

    assert "method.bits: 4 there, 3 now" in str(caught.value)
    assert "publish" not in str(caught.value)


def test_a_base_that_moved_on_since_it_was_planned_does_not_move_the_run(
    client: Client, hub: FaultyHub, llama: Path, tmp_path: Path
) -> None:  # a second: a hub starts
    api = client.api()
    api.create_repo("acme/base")
    api.upload_folder(repo_id="acme/base", folder_path=llama)
    first = plan(recipe_for(llama, model="acme/base"), tmp_path / "run", client)
    api.upload_file(path_or_fileobj=b"new", path_in_repo="news.txt", repo_id="acme/base")

    moved = recipe_for(llama, model="acme/base", publish={"org": "you"})
    again = plan(moved, tmp_path / "run", client)

    assert again.source == first.source
    assert again.repo.startswith("you/")


TEXT = {"dataset": {"name": "wikitext2"}, "samples": 3, "length": 32}


def put_text(client: Client, text: bytes) -> str:
    """Put a text into a data set, made if missing; return the commit."""
    api = client.api()
    api.create_repo("acme/texts", repo_type="dataset", exist_ok=True)
    return api.upload_file(
        repo_id="acme/texts", repo_type="dataset", path_in_repo="train.txt", path_or_fileobj=text
    ).oid


def test_a_data_set_that_moved_on_since_it_was_planned_does_not_move_the_run(
    llama: Path, tmp_path: Path, client: Client
) -> None:  # a second: a hub starts
    run, first = tmp_path / "run", put_text(client, b"llamas " * 99)
    changes = {"calibration": {**TEXT, "dataset": {"hub": "acme/texts"}}}
    began = plan(recipe_for(llama, **changes), run, client)
    put_text(client, b"alpacas " * 99)

    again = plan(recipe_for(llama, **changes, publish={"org": "you"}), run, client)

    assert began.data == again.data == {"acme/texts": first}
    assert again.repo.startswith("you/")


def test_a_run_of_before_does_not_say_which_commits_it_read(
    llama: Path, tmp_path: Path, client: Client
) -> None:  # a second: a hub starts
    run = tmp_path / "run"
    put_text(client, b"llamas " * 99)
    changes = {"calibration": {**TEXT, "dataset": {"hub": "acme/texts"}}}
    began = plan(recipe_for(llama, **changes), run, client)
    began.model_copy(update={"data": {}}).save(run / "plan.json")
    (run / "blocks").mkdir()

    again = plan(recipe_for(llama, **changes, publish={"org": "you"}), run, client)

    assert again.data == {}


def test_how_many_processes_share_a_run_is_part_of_its_plan(run: Path, llama: Path) -> None:
    (run / "checkpoint.json").unlink()
    planned = shared_out(Plan.load(run / "plan.json"), 2, run)
    (run / "blocks").mkdir()

    again = plan(recipe_for(llama, name="renamed"), run, NOWHERE)

    assert planned.processes == again.processes == Plan.load(run / "plan.json").processes == 2
    assert shared_out(again, 2, run) == again
    with pytest.raises(UserError) as raised:
        shared_out(again, 1, run)
    assert str(raised.value) == (
        f"the run in {run} was begun by 2 processes, and one process would sum up in another "
        "order: go on by `hubq quantize` with --gpus 2 or torchrun, replace it with --fresh, or "
        "choose another folder with --run"
    )


def test_a_finished_run_serves_any_number_of_processes(run: Path) -> None:
    planned = Plan.load(run / "plan.json")

    assert shared_out(planned, 4, run) == planned


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {"name": "db_llm"}}, "DB-LLM trains each block step by step"),
        ({"method": {"name": "gptq"}}, "calibration.samples (3) are fewer than the 4 processes"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    recipe = recipe_for(tmp_path, calibration=TEXT, **changes).model_dump(mode="json")

    with pytest.raises(UserError, match=re.escape(said)):
        shared_out(made_plan(recipe=recipe), 4, tmp_path)
    assert not list(tmp_path.iterdir())
