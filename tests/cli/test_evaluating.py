"""`hubq evaluate` with a model instead of a recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hubq.cli import cli
from hubq.records.report import Assessment


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama3.2")


# A worker starts: some seconds.
def test_a_folder_beside_its_base_is_a_record_that_is_named_and_printed(
    tiny: Path, own_folder: Path
) -> None:
    (own_folder / "text.jsonl").write_text('{"body": "The llama went home, and slept."}\n' * 9)
    text = "{file: text.jsonl, field: body}"

    result = evaluate(
        *("--model", tiny, "--against", tiny, "--perplexity", text, "--length", 32),
        *("--windows", 4, "--skip", "fidelity", "--skip", "efficiency", "--json"),
    )

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["subject"]["name"] == "llama3.2"
    place = own_folder / "llama3.2.evaluation.json"
    assert result.stderr.splitlines()[-1] == place.name
    (perplexity,) = Assessment.load(place).measurements
    assert (perplexity.samples, perplexity.value) == (4, perplexity.base)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name one RECIPE, or a model"),
        (["a.yaml", "b.yaml"], "name one RECIPE, or a model"),
        (["a.yaml", "--limit", 3], "--limit is only for --model"),
        (["a.yaml", "--chat-template"], "--chat-template is only for --model"),
        (["--model", "a/b"], "needs --against BASE"),
        (["--model", "a/b", "--against", "a/c", "--fresh"], "--fresh are for a recipe"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_a_wrong_use(
    arguments: list[object], said: str
) -> None:
    result = evaluate(*arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_all_that_is_wrong_with_what_is_asked_for_is_said_at_once() -> None:
    result = evaluate(
        *("--model", "a/b", "--against", "a/c", "--perplexity", "wikitext3"),
        *("--length", 1, "--limit", 0),
    )

    assert result.exit_code == 1
    assert "did you mean wikitext2?" in result.stderr
    assert "perplexity.0.length: must be greater than or equal to 2" in result.stderr
    assert "limit: must be greater than or equal to 1" in result.stderr


def test_a_mapping_that_is_no_yaml_is_refused(tiny: Path) -> None:
    result = evaluate("--model", tiny, "--against", "{hub: [")

    assert result.exit_code == 1
    assert "invalid YAML" in result.stderr


@pytest.mark.parametrize("text", ["model: a/b", '{"model": "a/b"}'])
def test_a_record_overwrites_no_other_file(own_folder: Path, text: str) -> None:
    (own_folder / "mine.yaml").write_text(text)

    result = evaluate("--model", "a/b", "--against", "a/c", "--out", "mine.yaml")

    assert result.exit_code == 1
    assert "mine.yaml exists and is not an evaluation" in result.stderr
    assert (own_folder / "mine.yaml").read_text() == text
