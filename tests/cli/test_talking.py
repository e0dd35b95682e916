"""`hubq chat`: one model, or two side by side."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_run import made_plan, made_report

from hubq.cli import cli
from hubq.client.client import Client
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.find import find
from hubq.stages.evaluate.inference.chat import answer

QUESTION = [{"role": "user", "content": "hello"}]


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "80")
    return tiny_model("llama")


def chat(*arguments: object, said: str | None = None) -> Result:
    result = CliRunner().invoke(cli, ["chat", *map(str, arguments)], input=said)
    assert result.exit_code == 0, result.output
    return result


def test_an_answer_that_was_cut_off_says_so(folder: Path) -> None:
    result = chat(folder, "hello", "--max-new-tokens", 3)

    assert result.stdout.strip() == "".join(answer(folder, QUESTION, 3)).strip()
    assert result.stderr.endswith("(cut off after 3 tokens; --max-new-tokens sets how many)\n")


def test_two_models_answer_side_by_side(folder: Path, tiny_model: Callable[[str], Path]) -> None:
    result = chat(folder, "hello", "--beside", tiny_model("qwen3"), "--max-new-tokens", 3)

    (titles,) = [line for line in result.stdout.splitlines() if "llama" in line]
    assert titles.index("qwen3") < titles.index("llama")
    assert result.stdout.count("cut off after 3 tokens") == 2


def test_each_remembers_what_it_said_itself(folder: Path) -> None:
    result = chat(folder, "--beside", folder, "--max-new-tokens", 2, said="hello\nagain\n\n")

    assert result.stdout.count("cut off") == 4


def test_a_run_answers_beside_its_base(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run" / "model")
    plan = made_plan(source=find(ModelSection(folder=folder), Client()).identity)
    plan.recipe["model"] = {"folder": str(folder)}
    made_report().model_copy(update={"plan": plan}).save(tmp_path / "run" / "report.json")

    result = chat(tmp_path / "run", "hello", "--beside", "base", "--max-new-tokens", 2)

    (titles,) = [line for line in result.stdout.splitlines() if "its base" in line]
    assert "run" in titles
