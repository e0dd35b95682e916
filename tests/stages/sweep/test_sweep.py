"""A sweep of recipes: what is done already, what waits for the front, and the family's page."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from made_measurements import FIDELITY
from made_run import made_checkpoint, made_plan, made_report

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.report import Interval, Report
from hubq.records.sweep import MemberRecord, members_in
from hubq.stages.compare.comparison import families
from hubq.stages.plan.members import plan_members
from hubq.stages.plan.plan import plan
from hubq.stages.recipe.recipe import read
from hubq.stages.sweep.local import Capacity, LocalProcesses
from hubq.stages.sweep.queue import Trying
from hubq.stages.sweep.results import family_differences, write_family
from hubq.stages.sweep.sweep import (
    Asked,
    Sweep,
    beaten_by,
    is_done,
    named_after,
    read_all,
    write_recipe,
)

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
PLENTY = Capacity(10**15, {})
NOWHERE = Client(endpoint="http://127.0.0.1:9")


def measured(repo: str, bits: float, divergence: float) -> Report:
    """Return a report of a model with so many bits that lost so much."""
    mean = Interval(value=divergence, low=0.9 * divergence, high=1.1 * divergence)
    result = FIDELITY.result.model_copy(update={"mean": mean})
    return made_report(
        plan=made_plan(repo),
        checkpoint=made_checkpoint({}).model_copy(update={"model_bits": bits}),
        fidelity=FIDELITY.model_copy(update={"result": result}),
    )


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps" / "mine" / "members").mkdir(parents=True)
    (tmp_path / "sweeps" / "mine" / "events").mkdir()
    (tmp_path / "sweeps" / "mine" / "logs").mkdir()
    return tmp_path


@pytest.fixture
def matrix(own_folder: Path, tiny_model: Callable[[str], Path]) -> Path:
    """Write a matrix of three widths, of which only those on the front are to be published."""
    values = {
        "model": {"folder": str(tiny_model("llama")), "base_model": "acme/tiny"},
        "matrix": {"method": {"name": "rtn", "bits": [4, 3, 2], "group_size": 32}},
        "publish": {"org": "acme", "only": "front"},
    }
    path = own_folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def swept(matrix: Path, reports: Mapping[str, Report]) -> Sweep:
    """Run a sweep whose members find their measurements there, by their names' ends."""
    wanted = read_all([matrix])
    sweep = Sweep(Asked("mine", (matrix,), "publish", 1), wanted.only_front, NOWHERE)
    for member in plan_members(wanted.members, NOWHERE):
        run = Path("runs") / member.recipe.name
        run.mkdir(parents=True)
        report = reports.get(member.recipe.name.rpartition("-")[2])
        if report is None:
            (run / "refused").touch()
        else:
            report.save(run / "report.json")
        sweep.add(member, {"evaluate": 1.0})
    executor = LocalProcesses(PLENTY, 1, {**os.environ, "PYTHONPATH": PATHS}, "sweeping_member")
    sweep.run(executor, lambda *_: None, Trying())
    return sweep


def did(name: str) -> str:
    return Path(f"runs/mine-{name}/did").read_text().strip()


THREE = {
    "rtn_4bit": measured("acme/tiny-RTN-4bit", 4.6, 0.01),
    "rtn_3bit": measured("acme/tiny-RTN-3bit", 5.0, 0.10),
    "rtn_2bit": measured("acme/tiny-RTN-2bit", 2.6, 0.90),
}


def test_only_what_is_on_the_front_is_published(matrix: Path) -> None:
    """Five small processes: two seconds."""
    sweep = swept(matrix, THREE)

    assert [did(name) for name in THREE] == ["evaluate publish", "evaluate", "evaluate publish"]
    states = {each.name: each.state for each in sweep.records}
    assert list(states.values()) == ["done", "beaten", "done"]
    assert sweep.records[1].message == "not published: acme/tiny-RTN-4bit clearly beats it"


def test_nothing_is_published_while_a_front_is_not_known(matrix: Path) -> None:
    sweep = swept(matrix, {name: THREE[name] for name in ("rtn_4bit", "rtn_2bit")})

    assert [did(name) for name in THREE] == ["evaluate"] * 3
    assert [each.state for each in sweep.records] == ["stopped", "failed", "stopped"]
    assert "its front is not known yet" in sweep.records[0].message


def test_each_recipe_becomes_a_file_that_says_the_same(tmp_path: Path) -> None:
    for member in read_all(RECIPES).members:
        path = tmp_path / f"{member.recipe.name}.yaml"

        write_recipe(member.recipe, path)

        assert read(path) == member.recipe


def test_what_a_run_folder_holds_is_done_for_the_same_recipe_alone(matrix: Path) -> None:
    recipe = read_all([matrix]).members[0].recipe
    record = MemberRecord(name="x", recipe="", run="runs/x", repo="acme/x")
    plan(recipe, Path("runs/x"), NOWHERE)
    other = recipe.model_copy(update={"embeddings": 8})

    before = is_done(record, recipe, "quantize", NOWHERE.url)
    Path("runs/x/checkpoint.json").write_text("{}")

    assert not before
    assert is_done(record, recipe, "quantize", NOWHERE.url)
    assert not is_done(record, recipe, "evaluate", NOWHERE.url)
    assert not is_done(record, other, "quantize", NOWHERE.url)


def test_two_recipes_of_one_name_and_every_mistake_are_refused_at_once(
    matrix: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    for place in (tmp_path, tmp_path / "other"):
        (place / "one.yaml").write_text("model: a/b\nmethod: rtn\npublish: {org: me}\n")
    (tmp_path / "wrong.yaml").write_text("model: a/b\nmethod: rnt\npublish: {org: me}\n")
    files = [matrix, *(tmp_path / each for each in ("one.yaml", "other/one.yaml", "wrong.yaml"))]

    with pytest.raises(UserError) as caught:
        read_all(files)

    assert "did you mean rtn?" in str(caught.value)
    assert "two recipes are called one" in str(caught.value)
    assert named_after(files) == "mine-one-wrong"


def test_who_is_beaten_is_told_with_who_beats_it() -> None:
    assert beaten_by(THREE.values()) == {"acme/tiny-RTN-3bit": "acme/tiny-RTN-4bit"}


def test_a_familys_page_has_its_picture_table_and_who_is_beaten(tmp_path: Path) -> None:
    (family,) = families(THREE.values())

    page = write_family(family, tmp_path)

    assert page == tmp_path / "Meta-Llama-3-8B" / "README.md"
    text = page.read_text()
    assert text.startswith("# Meta-Llama-3-8B: 3 models beside their base\n")
    assert "| **4bit** |" in text
    assert "| 3bit |" in text
    assert "- 3bit (0.1000 at 5 bits): take 4bit (0.01000 at 4.600 bits)\n" in text
    made = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*.*")}
    assert made == {"README.md", "family.json", "images/bits.png", "images/bits-dark.png"}
    assert family_differences(page.parent) == []
    page.write_text(text.replace("clearly", "hardly"))
    assert len(family_differences(page.parent)) == 1


def test_the_records_of_a_sweep_are_read_in_its_order(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "mine"
    (folder / "sweep.json").write_text(
        '{"name": "mine", "files": ["a"], "stage": "publish", "at_once": 1, "members": ["b", "a"]}'
    )
    for name in ("a", "b"):
        MemberRecord(name=name, recipe="", run="", repo="").save(folder / f"members/{name}.json")

    assert [each.name for each in members_in(folder)] == ["b", "a"]
