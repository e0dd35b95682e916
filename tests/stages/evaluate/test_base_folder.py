"""The base of a model of ours is found by its report."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_run import made_plan, made_report

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Report
from hubq.sources.find import find
from hubq.stages.evaluate.assess import base_of


@pytest.fixture
def base(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


def report_of(base: Path, named: str | None = None) -> Report:
    plan = made_plan(source=find(ModelSection(folder=base), Client()).identity)
    plan.recipe["model"] = {"folder": named or str(base)}
    return made_report().model_copy(update={"plan": plan})


def test_the_base_of_a_run_is_the_one_of_its_recipe(base: Path, tmp_path: Path) -> None:
    report_of(base).save(tmp_path / "report.json")
    (tmp_path / "model").mkdir()

    assert base_of(tmp_path, Client()) == base
    assert base_of(tmp_path / "model", Client()) == base


def test_a_run_may_have_the_name_of_the_folder_that_records_have_in_repos(
    base: Path, tmp_path: Path
) -> None:
    report_of(base).save(tmp_path / "hubq" / "report.json")
    (tmp_path / "hubq" / "model").mkdir()

    assert base_of(tmp_path / "hubq" / "model", Client()) == base


def test_a_base_that_changed_since_is_refused(base: Path, tmp_path: Path) -> None:
    report = report_of(base)
    plan = report.plan.model_copy(update={"source": "sha256:" + "0" * 64})
    report.model_copy(update={"plan": plan}).save(tmp_path / "report.json")

    with pytest.raises(UserError, match="weights changed since they were planned"):
        base_of(tmp_path, Client())


@pytest.mark.parametrize("absolute", [True, False])
def test_a_release_names_no_folder_of_another_machine(
    absolute: bool, base: Path, tmp_path: Path
) -> None:
    named = str(base) if absolute else "tiny"
    report_of(base, named).save(tmp_path / "hubq" / "report.json")

    with pytest.raises(UserError, match=r"was made from .*; name it: org/name, a folder or a GGUF"):
        base_of(tmp_path, Client())


def test_a_model_without_a_report_has_no_known_base(base: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds no report\.json of hubq, so its base is not known; name"
    ):
        base_of(base, Client())
