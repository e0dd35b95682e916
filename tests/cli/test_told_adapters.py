"""What the command line tells of adapters: in the list of methods, and in a plan."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hubq.cli import cli
from hubq.methods.adapters import adapters

PAIR = {"instruction": "What is a llama?", "output": "An animal."}


def hubq(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def recipe(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a recipe of RTN for a tiny model, with an adapter."""
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR))
    (tmp_path / "text.txt").write_text("a llama")

    def write(**adapt: Any) -> Path:
        values = {
            "model": {"folder": str(tiny_model("llama")), "base_model": "acme/tiny"},
            "method": {"name": "rtn", "bits": 4, "group_size": 32},
            "calibration": {"dataset": "./text.txt", "samples": 1, "length": 4},
            "adapt": adapt,
            "publish": {"org": "acme"},
        }
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def test_adapters_are_listed_after_the_methods() -> None:
    found = json.loads(hubq("methods", "--json"))["adapters"]

    assert sorted(found) == adapters()
    options = {each["name"]: each["default"] for each in found["qlora"]["options"]}
    assert (options["rank"], options["dataset"]) == (64, None)
    assert found["peqa"]["makes"] == "checkpoint"


def test_adapters_are_a_table_with_their_papers() -> None:
    said = hubq("methods")

    assert said.index("slim_llm") < said.index("low_rank")
    assert re.search(r"^ *low_rank +adapter +merge false *$", said, re.MULTILINE)
    assert re.search(r"^QLoRA \(qlora\): LoRA on .* https://arxiv.org/abs/2305.14314", said, re.M)


def test_a_plan_tells_what_is_adapted_and_where_it_goes(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    said = hubq("plan", recipe(name="low_rank", rank=4), "--run", tmp_path / "run")

    assert re.search(r"^adapts +by low_rank to an adapter of ", said, re.MULTILINE)
    assert re.search(r"^adapted repo +acme/tiny-RTN-4bit-low-rank-correction$", said, re.MULTILINE)
    assert re.search(r"^ +adapt \d", said, re.MULTILINE)  # its time


def test_a_plan_tells_what_the_license_of_the_data_asks_for(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = {"file": "./pairs.jsonl", "license": "cc-by-nc-4.0"}

    said = hubq("plan", recipe(name="qlora", rank=4, dataset=pairs), "--run", tmp_path / "run")

    assert re.search(r"^learns from +pairs\.jsonl, license cc-by-nc-4\.0$", said, re.MULTILINE)
    assert "forbids commercial use" in said


def test_a_plan_as_json_has_it_all(recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe(name="peqa", dataset="./pairs.jsonl")

    found = json.loads(hubq("plan", path, "--run", tmp_path / "run", "--json"))

    assert found["adaptation"]["repo"] == "acme/tiny-RTN-4bit-PEQA"
    assert found["adaptation"]["pairs"] == "pairs.jsonl"
    assert found["estimate"]["seconds"]["adapt"]["training"] > 0
