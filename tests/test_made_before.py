"""What hubq made before its folders moved is understood as it was: a run's folder and a repo.

`tests/fixtures/made_before` holds both, with the recipe, the text and the base that they are of. In
the run's records `/made/before` stands for the folder in which it all lay.
"""

import json
import re
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from asked_without_hubq import ask
from click.testing import CliRunner, Result
from faulty_hub import FaultyHub, faulty_hub

from hubq.cli import cli
from hubq.formats import format_named
from hubq.records.checkpoint import Checkpoint
from hubq.records.report import Report
from hubq.records.run_folder import CHECKPOINT, PLAN, REPORT, SIBLINGS
from hubq.sources.shards import Weights
from hubq.stages.card.card import CARD, render
from hubq.stages.card.check import differences
from hubq.stages.compare.reports import Siblings
from hubq.stages.evaluate.inference.loading import load

BEFORE = Path(__file__).parent / "fixtures" / "made_before"
PLACE = "/made/before"
# Of the dequantized weights, by the code that made the repo.
WEIGHTS = "455e11c17c8e902eccb394da761c0ccd2a364df63b5b1cd45088d29018899269"
NUMBER = re.compile(r"\d[\d.,]*")
IDS = torch.arange(40).view(2, 20)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a copy of what was made, in which the run's records name the copy's files."""
    folder = Path(shutil.copytree(BEFORE, tmp_path / "before"))
    for name in (PLAN, REPORT):
        path = folder / "run" / name
        path.write_text(path.read_text().replace(PLACE, str(folder)))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    """Serve a hub whose token the command line finds as a user's would be found."""
    with faulty_hub(tmp_path / "hub", user="ann", org="acme", wait=False) as running:
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def hubq(command: str, made: Path, hub: FaultyHub) -> Result:
    """Let a command go through the recipe in the run's folder."""
    values = [command, made / "recipe.yaml", "--run", made / "run", "--hub", hub.endpoint]
    result = CliRunner().invoke(cli, list(map(str, values)))
    assert result.exit_code == 0, result.output
    return result


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return each file of a folder, and when it was written."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def records(run: Path) -> dict[str, tuple[bytes, int]]:
    """Return what costs hours: the plan, the model and the measurements."""
    whole = contents(run)
    kept = (PLAN, CHECKPOINT, REPORT)
    return {name: each for name, each in whole.items() if name in kept or name.startswith("model/")}


def test_the_plan_of_a_run_made_before_is_kept(made: Path, hub: FaultyHub) -> None:
    before = contents(made / "run")

    hubq("plan", made, hub)

    assert contents(made / "run") == before


def test_a_run_made_before_is_published_with_nothing_computed_again(
    made: Path, hub: FaultyHub
) -> None:
    before = records(made / "run")

    said = hubq("publish", made, hub).output

    assert records(made / "run") == before
    assert "acme/tiny-GPTQ-4bit" in said


@pytest.mark.usefixtures("nothing_tried")  # versions and dates of engines are numbers too
def test_the_card_made_before_has_the_numbers_of_its_report(made: Path) -> None:
    report, siblings = Report.load(made / "run" / REPORT), Siblings.load(made / "run" / SIBLINGS)

    card = (made / "run" / "README.md").read_text()
    now = render(report, siblings).replace("top-1", "likeliest")  # which has a digit in its name
    now = re.sub(r"^hubq reproduce .*\n", "", now, flags=re.MULTILINE)  # which names it again

    assert NUMBER.findall(card) == NUMBER.findall(now)


def test_the_check_of_a_card_made_before_finds_other_words_and_no_other_picture(
    made: Path,
) -> None:
    found = differences(made / "run")

    assert all(each.startswith(f"{made / 'run' / CARD}, ") for each in found), found


def test_the_report_of_a_repo_made_before_is_that_of_its_run() -> None:
    of_run = json.loads((BEFORE / "run" / REPORT).read_text())
    of_repo = Report.load(BEFORE / "repo" / "hubq" / REPORT)

    written = of_repo.model_dump(mode="json", exclude_unset=True)["measurements"]
    assert written == of_run["measurements"]
    assert of_repo.checkpoint == Checkpoint.model_validate(of_run["checkpoint"])


def test_a_repo_made_before_has_the_same_weights_bit_for_bit() -> None:
    folder = BEFORE / "repo"
    weights, report = Weights(folder), Report.load(folder / "hubq" / REPORT)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    digest = sha256()

    for name in sorted(layer.name for layer in report.checkpoint.layers):
        tensors = {each: weights.read(each) for each in weights.info if each.startswith(f"{name}.")}
        weight = format_named("hubq").unpack(name, tensors, config).dequantize()
        digest.update(weight.numpy().tobytes())

    assert digest.hexdigest() == WEIGHTS


# Takes some seconds: a new process imports transformers.
def test_a_repo_made_before_answers_the_same_where_hubq_is_not_installed(
    made: Path, tmp_path: Path
) -> None:
    (answer,) = ask([(str(made / "repo"), False)], tmp_path)

    with torch.inference_mode():
        own = load(made / "repo", device="cpu", dtype="bfloat16").model(input_ids=IDS).logits
    assert torch.equal(answer["logits"], own)
