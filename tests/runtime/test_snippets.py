"""The code on the card of a hubq release runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hubq_folder import write
from made_run import REPO, made_plan, made_report

from hubq.card import render
from hubq.runtime.carried import LOADER


@pytest.fixture(scope="module")
def text() -> str:
    plan = made_plan()
    plan.recipe["format"] = "hubq"
    return render(made_report(plan=plan))


@pytest.fixture(scope="module")
def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_card_lets_transformers_read_the_format(snippets: list[str]) -> None:
    assert snippets[0].startswith("import hubq ")


def test_the_card_tells_of_the_way_without_hubq(text: str) -> None:
    assert (
        f"Without hubq, pass `trust_remote_code=True` instead: transformers then runs `{LOADER}`"
        in text
    )


def test_cards_of_other_formats_do_not_speak_of_hubqs_loader() -> None:
    text = render(made_report())

    assert "import hubq" not in text
    assert LOADER not in text


def test_the_code_runs(
    snippets: list[str],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tiny_model("llama"), tmp_path / "model")
    names: dict[str, Any] = {}

    exec(snippets[0].replace(REPO, str(tmp_path / "model")), names)
    dense = names["model"].model.layers[0].mlp.up_proj
    exec(snippets[1], names)
    packed = names["model"].model.layers[0].mlp.up_proj

    assert capsys.readouterr().out.startswith("The llama is an animal that")
    assert (type(dense).__name__, type(packed).__name__) == ("Linear", "PackedLinear")
