"""A recipe whose section adapt changed: the quantized model stays, what is adapted must fit."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_adaptation import adapt_by_hand, adapted_report, adapting
from made_run import made_plan, made_report

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.adaptation import Adaptation
from hubq.records.adapted_report import load_report
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.stages.plan.adapted_run import begin, belongs_to
from hubq.stages.plan.plan import plan
from hubq.stages.plan.replanning import adopted
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
UP = {"model.layers.0.mlp.up_proj": (128, 64)}


@pytest.fixture(scope="module")
def made(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was quantized, adapted and, as its reports say, measured."""
    run = tmp_path_factory.mktemp("made") / "run"
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"folder": tiny_model("llama"), "base_model": "acme/base"},
            "method": {"name": "rtn", "bits": 4, "group_size": 32},
            "evaluate": {"efficiency": None},
            "publish": {"org": "acme"},
        }
    )
    planned = adapting(plan(recipe, run, NOWHERE))
    planned.save(run / "plan.json")
    checkpoint = quantize(planned, run, NOWHERE)
    begin(planned, run)
    report = made_report(plan=planned, checkpoint=checkpoint)
    report.save(run / "report.json")
    adapted_report(report, adapt_by_hand(run, UP)).save(run / "adapted" / "report.json")
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run", symlinks=True))


def changed(run: Path, **sections: dict[str, object]) -> Plan:
    """Return a run's plan with other options in some sections of its recipe."""
    there = Plan.load(run / "plan.json")
    own = {name: {**there.recipe[name], **options} for name, options in sections.items()}
    return there.model_copy(update={"recipe": {**there.recipe, **own}})


def adopt(planned: Plan, run: Path) -> Plan:
    return adopted(Plan.load(run / "plan.json"), planned, run, NOWHERE)


def test_another_adapter_than_the_finished_one_is_refused_with_what_differs(run: Path) -> None:
    other = changed(run, adapt={"rank": 8})

    with pytest.raises(UserError, match=r"other settings:\n  adapt\.rank: 4 there, 8 now\nDelete"):
        adopt(other, run)

    assert Plan.load(run / "plan.json").recipe["adapt"]["rank"] == 4


def test_a_training_that_was_begun_otherwise_is_refused_too(run: Path) -> None:
    (run / "adapted" / "adaptation.json").unlink()
    (run / "adapted" / "steps" / "00010").mkdir(parents=True)

    with pytest.raises(UserError, match="was made by other settings"):
        adopt(changed(run, adapt={"rank": 8}), run)


def test_what_is_not_begun_is_made_anew_and_the_quantized_model_stays(run: Path) -> None:
    (run / "adapted" / "adaptation.json").unlink()
    weights = (run / "model" / "model.safetensors").stat().st_mtime_ns

    adopt(changed(run, adapt={"rank": 8}), run)

    assert not (run / "adapted" / "model").exists()
    assert Plan.load(run / "plan.json").recipe["adapt"]["rank"] == 8
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == weights
    assert (run / "report.json").is_file()


def test_a_deleted_adapter_lets_other_settings_begin(run: Path) -> None:
    shutil.rmtree(run / "adapted")

    begin(adopt(changed(run, adapt={"rank": 8}), run), run)

    assert Plan.load(run / "adapted" / "plan.json").recipe["adapt"]["rank"] == 8


def test_without_the_section_what_is_adapted_stays_until_it_comes_back(run: Path) -> None:
    without = changed(run).model_copy(update={"adaptation": None})
    without.recipe["adapt"] = None
    adopt(without, run)
    assert (run / "adapted" / "adaptation.json").is_file()

    there = adapting(Plan.load(run / "plan.json"))
    adopt(there, run)
    there.recipe["adapt"]["rank"] = 8
    with pytest.raises(UserError, match="was made by other settings"):
        adopt(there, run)


def test_words_reach_the_adapters_report_too(run: Path) -> None:
    planned = changed(run, publish={"private": False})
    assert planned.adaptation is not None
    named = planned.adaptation.model_copy(update={"repo": "acme/renamed"})

    adopt(planned.model_copy(update={"adaptation": named}), run)

    report = load_report(run / "adapted" / "report.json")
    assert report.plan == Plan.load(run / "adapted" / "plan.json")
    assert (report.plan.repo, report.plan.recipe["publish"]["private"]) == ("acme/renamed", False)


def test_other_measurements_are_taken_of_both(run: Path) -> None:
    adopt(changed(run, evaluate={"seed": 9}), run)

    assert not (run / "report.json").exists()
    assert not (run / "adapted" / "report.json").exists()
    assert (run / "adapted" / "adaptation.json").is_file()


def test_another_license_is_written_into_a_whole_model_too(run: Path) -> None:
    shutil.rmtree(run / "adapted")
    begin(Plan.load(run / "plan.json"), run)
    before = adapt_by_hand(run, UP, "checkpoint")

    adopt(changed(run, publish={"license": "apache-2.0"}), run)

    after = Adaptation.load(run / "adapted" / "adaptation.json")
    new = after.files.keys() - before.files.keys()
    assert new
    assert all((run / "adapted" / "model" / name).is_file() for name in new)


def test_another_license_lies_beside_an_adapter_too(run: Path) -> None:
    before = Checkpoint.load(run / "checkpoint.json").files

    adopt(changed(run, publish={"license": "apache-2.0"}), run)

    new = Checkpoint.load(run / "checkpoint.json").files.keys() - before.keys()
    links = [run / "adapted" / "model" / name for name in new]
    assert links
    assert all(each.is_symlink() and each.is_file() for each in links)
    assert all(each.resolve() == (run / "model" / each.name).resolve() for each in links)


@pytest.mark.parametrize(
    ("publish", "named"),
    [
        ({}, "acme/Tiny-Llama-GPTQ-4bit"),
        ({"quantized": "acme/other@v1"}, "acme/other@v1"),
        (
            {"adapter_of": "base"},
            "meta-llama/Meta-Llama-3-8B@8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920",
        ),
    ],
    ids=["quantized", "named", "base"],
)
def test_an_adapter_belongs_to_what_the_recipe_says(publish: dict[str, Any], named: str) -> None:
    assert belongs_to(adapting(made_plan(), **publish)) == named


def test_a_base_that_came_from_elsewhere_is_named_without_a_commit() -> None:
    plan = adapting(made_plan(source="sha256:5f3a"), adapter_of="base")

    assert belongs_to(plan) == "meta-llama/Meta-Llama-3-8B"


def test_a_whole_model_belongs_to_none() -> None:
    assert belongs_to(adapting(made_plan(), "checkpoint")) is None
