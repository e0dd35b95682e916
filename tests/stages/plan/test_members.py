"""All recipes of a matrix planned together: their mistakes, repos and sums."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.stages.plan.members import PlannedMember, measured_first, plan_members, totals
from hubq.stages.recipe.matrix import Matrix, read_matrix


@pytest.fixture
def made(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Matrix]:
    """Return a function that writes a matrix for a tiny model, and reads it."""

    def make(**matrix: object) -> Matrix:
        values = {
            "model": {"folder": str(tiny_model("llama")), "base_model": "acme/tiny"},
            "publish": {"org": "acme"},
            "matrix": matrix,
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
        return read_matrix(tmp_path / "mine.yaml")

    return make


def planned(matrix: Matrix) -> list[PlannedMember]:
    return plan_members(matrix.members, Client())


def test_each_recipe_gets_a_repo_of_its_own(made: Callable[..., Matrix]) -> None:
    method = {"name": "rtn", "bits": [4, 3], "group_size": [32, 16]}

    found = planned(made(method=method, format=["hubq"]))

    assert [each.plan.repo for each in found] == [
        "acme/tiny-RTN-4bit",
        "acme/tiny-RTN-4bit-group-size-16",
        "acme/tiny-RTN-3bit",
        "acme/tiny-RTN-3bit-group-size-16",
    ]
    assert found[1].recipe.publish.name == "tiny-RTN-4bit-group-size-16"


def test_what_cannot_work_is_said_of_every_recipe_at_once(
    made: Callable[..., Matrix], tmp_path: Path
) -> None:
    methods = [
        {"name": "rtn", "bits": [4, 3], "group_size": 48},
        {"name": "gptq", "group_size": 32},
        {"name": "rtn", "bits": 2, "group_size": 32},
    ]

    with pytest.raises(UserError) as caught:
        planned(made(method=methods))

    told = str(caught.value).splitlines()
    assert told[0] == "3 of 4 recipes can't work:"
    line = 1 + (tmp_path / "mine.yaml").read_text().splitlines().index("  - bits:")
    assert told[1] == f"mine-rtn_4bit (line {line}), mine-rtn_3bit (line {line}):"
    assert "does not divide" in told[3]
    assert any(each.startswith("mine-gptq_4bit (line ") for each in told)
    assert any("needs calibration data" in line for line in told)


def test_the_sums_count_a_base_once(made: Callable[..., Matrix]) -> None:
    found = planned(made(method={"name": "rtn", "bits": [4, 2], "group_size": 32}))

    sums = totals(found)

    plans = [each.plan for each in found]
    assert sums.published == sum(plan.bytes for plan in plans)
    beside = max(plan.bytes for plan in plans)  # the result again, while its parts are joined
    assert sums.storage == plans[0].base_bytes + sums.published + beside
    assert sums.memory == max(plan.peak_memory for plan in plans)
    assert measured_first(found) == [False, True]
