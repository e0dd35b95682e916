"""The code on the card of a hubq release runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hubq_folder import write
from made_run import REPO, made_plan, made_report

from hubq.machine.engines import LOADER
from hubq.stages.card.card import render


@pytest.fixture(scope="module")
def text() -> str:
    plan = made_plan()
    plan.recipe["format"] = "hubq"
    return render(made_report(plan=plan))


@pytest.fixture(scope="module")
def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_card_begins_with_what_needs_no_hubq(text: str, snippets: list[str]) -> None:
    assert "trust_remote_code=True" in snippets[0]
    assert "import hubq" not in snippets[0]
    assert f"With `trust_remote_code=True`, transformers runs `{LOADER}`" in text


def test_the_card_tells_of_the_way_with_hubq_and_where_that_is_from(text: str) -> None:
    assert "The other way is hubq (the tool that made this repo; not on PyPI" in text
    assert "after `import hubq`, transformers reads the format" in text


def test_no_card_sends_anybody_to_a_package_that_is_not_ours(text: str) -> None:
    installs = [line for line in text.splitlines() if line.startswith("pip install")]

    assert installs
    assert not any("hubq" in line for line in installs)


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
