"""`hubq adapt`, and the commands after it on a recipe that adapts."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command_line import hubq
from faulty_hub import FaultyHub
from made_adaptation import adapt_by_hand

from hubq.records.plan import Plan
from hubq.records.run_folder import STEPS
from hubq.stages.plan.adapted_run import begin
from hubq.stages.quantize.resuming import VARIABLE, States

PAIR = {"instruction": "What is a llama?", "output": "An animal."}
UP = {f"model.layers.{number}.mlp.up_proj": (128, 64) for number in range(2)}
LOW_RANK = {"name": "low_rank", "rank": 4}
QUANTIZED, ADAPTED = "acme/tiny-RTN-4bit", "acme/tiny-low-rank"

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def recipe(own_folder: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Path]:
    """Return a function that writes a recipe of RTN for a tiny model, with an adapter or none."""
    text = "".join(f"Llama {number} ate {number * 7} leaves.\n" for number in range(20))
    (own_folder / "text.txt").write_text(text)
    (own_folder / "pairs.jsonl").write_text(json.dumps(PAIR))

    def write(adapt: dict[str, object] | None) -> Path:
        values = {
            "model": {"folder": str(tiny_model("llama")), "base_model": "acme/tiny"},
            "method": {"name": "rtn", "bits": 4, "group_size": 32},
            "calibration": {"dataset": "./text.txt", "samples": 1, "length": 4},
            "evaluate": {
                "perplexity": [{"dataset": {"file": "./text.txt"}, "length": 32, "windows": 4}],
                "efficiency": None,
            },
            "publish": {"org": "acme", "adapted_name": "tiny-low-rank"},
        }
        if adapt is None:
            del values["publish"]["adapted_name"]  # type: ignore[attr-defined]
        path = own_folder / "mine.yaml"
        path.write_text(yaml.safe_dump(values | ({"adapt": adapt} if adapt else {})))
        return path

    return write


@pytest.fixture
def adapted(recipe: Callable[..., Path], own_folder: Path) -> Path:
    """Return a recipe whose run was quantized, and adapted by hand."""
    path, run = recipe(LOW_RANK), own_folder / "runs" / "mine"
    assert hubq("quantize", path).exit_code == 0
    begin(Plan.load(run / "plan.json"), run)
    adapt_by_hand(run, UP)
    return path


def test_a_recipe_without_the_section_says_what_to_add(recipe: Callable[..., Path]) -> None:
    result = hubq("adapt", recipe(None))

    assert result.exit_code == 1
    assert result.stderr == (
        "mine has no section adapt, which says how the quantized model is taught or corrected: "
        "add one, such as `adapt: {name: low_rank, rank: 32}` (`hubq methods` lists all)\n"
    )


def test_what_is_adapted_already_is_told_and_not_made_again(adapted: Path) -> None:
    said, as_json = hubq("adapt", adapted), hubq("adapt", adapted, "--json")

    assert said.output.startswith("runs/mine/adapted/model: an adapter by low_rank: 768 parameters")
    assert json.loads(as_json.stdout)["makes"] == "adapter"


def test_a_training_that_was_stopped_says_where_it_goes_on(
    recipe: Callable[..., Path], own_folder: Path
) -> None:
    import torch

    path = recipe({"name": "qlora", "dataset": "./pairs.jsonl", "rank": 4, "steps": 1200})
    hubq("quantize", path)
    steps = own_folder / "runs" / "mine" / "adapted" / STEPS / "training-abc"
    States(steps).write(1100, {"a": torch.zeros(1)})

    said = hubq("plan", path).output

    assert "goes on           after step 1,100 of 1,200" in said.splitlines()


@pytest.mark.parametrize(
    ("adapt", "kept", "goes_on"),
    [
        (
            {"name": "qlora", "dataset": "./pairs.jsonl", "rank": 2, "steps": 3, "held_out": 0},
            "training",
            "after step 1 of 3",
        ),
        (LOW_RANK, "corrections", "after block 1 of 2"),
    ],
    ids=["trained", "corrected"],
)
def test_an_adaptation_that_is_told_to_end_goes_on_where_it_stopped(
    recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    adapt: dict[str, object],
    kept: str,
    goes_on: str,
) -> None:
    path, replace = recipe(adapt), os.replace
    assert hubq("quantize", path).exit_code == 0

    def put(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).name == "states.safetensors" and kept in str(target):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setenv(VARIABLE, "0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", put)
        stopped = hubq("adapt", path)
    resumed = hubq("adapt", path)

    assert stopped.exit_code == 130, stopped.output
    assert stopped.stderr.splitlines()[-1] == f"Adapting will go on {goes_on}."
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stderr.splitlines()[0] == f"runs/mine/adapted goes on {goes_on}"
    assert not Path("runs/mine/adapted/steps").exists()


# Three models are measured, each in fresh processes: some seconds.
def test_publish_measures_all_three_and_publishes_both_in_order_once(
    adapted: Path, hub: FaultyHub, own_folder: Path
) -> None:
    first = hubq("publish", adapted, "--hub", hub.endpoint)
    pushes = len(hub.faults.requests("POST", "/git-receive-pack"))
    second = hubq("publish", adapted, "--hub", hub.endpoint, "--json")

    assert first.exit_code == second.exit_code == 0, first.output
    places = dict(line.split(maxsplit=1) for line in first.stdout.splitlines()[:4])
    assert places["card"] == "runs/mine/adapted/README.md"
    assert places["base"].startswith(f"{hub.endpoint}/{QUANTIZED} (private, commit ")
    assert places["repo"].startswith(f"{hub.endpoint}/{ADAPTED} (private, commit ")
    assert len(hub.faults.requests("POST", "/git-receive-pack")) == pushes == 2
    published = json.loads(second.stdout)
    config = json.loads((own_folder / "runs/mine/adapted/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == QUANTIZED
    assert config["revision"] == published["quantized"]["commit"]
    assert hubq("pull", ADAPTED, "--hub", hub.endpoint).exit_code == 0
    assert hubq("card", "--check", "runs/mine", "runs/mine/adapted").exit_code == 0
    assert ADAPTED in (own_folder / "runs/mine/README.md").read_text()
    answers = [
        hubq("chat", model, "hello", "--max-new-tokens", 3, "--hub", hub.endpoint).stdout
        for model in (ADAPTED, "runs/mine/adapted")
    ]
    assert answers[0] == answers[1] != ""
    compared = hubq("compare", QUANTIZED, ADAPTED, "--markdown", "--hub", hub.endpoint)
    assert "| low-rank | rtn + low_rank |" in compared.stdout, compared.output
