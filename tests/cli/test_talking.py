"""`hubq chat`: one model, or two side by side."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_run import made_plan, made_report
from PIL import Image
from tiny_vision import save_tiny_vision_model

from hubq.cli import cli
from hubq.client.client import Client
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.find import find
from hubq.sources.pictures.reading import picture_file
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


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (50, 30), "red").save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_picture_is_shown_with_the_first_question(picture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "seeing"
    save_tiny_vision_model("LlavaNextForConditionalGeneration", folder)

    result = chat(folder, "hello", "--image", picture, "--max-new-tokens", 4)

    seen = answer(folder, QUESTION, 4, [picture_file(picture)])
    assert result.stdout.strip() == "".join(seen).strip()
    assert result.stdout.strip() != "".join(answer(folder, QUESTION, 4)).strip()


def test_a_picture_for_a_model_that_reads_text_alone_is_refused(
    folder: Path, picture: Path
) -> None:
    result = CliRunner().invoke(cli, ["chat", str(folder), "hello", "--image", str(picture)])

    assert result.exit_code == 1
    assert "reads text alone: ask it without a picture" in result.stderr


def test_what_is_no_picture_is_refused_before_a_model_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    asked = ["chat", "nobody/nothing", "hello", "--image", str(tmp_path / "notes.txt")]

    result = CliRunner().invoke(cli, asked)

    assert result.exit_code == 1
    assert "notes.txt is no picture" in result.stderr
