"""Every shipped recipe: it can be read, it says for whom it is, and it can be planned."""

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml
from tiny_models import WIDE
from tiny_vision import save_tiny_vision_model

from hubq.client.client import Client
from hubq.records.recipe_evaluate import RequireSection
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.vision import VISION_FAMILIES
from hubq.stages.plan.members import plan_members
from hubq.stages.plan.plan import plan
from hubq.stages.recipe.matrix import is_matrix, read_matrix
from hubq.stages.recipe.recipe import Recipe, read
from hubq.stages.recipe.schema import schema

FOLDER = Path(__file__).parents[3] / "recipes"
NAME = re.compile(
    r"(quickstart_|demo_|llava_next_8b_)?(?P<method>[a-z_]+|fp8|nvfp4|mxfp4)_(?P<bits>\d(\.\d)?)bit(_[a-z0-9._]+)?"
)
# What a recipe's model has in its name -> the tiny model of its architecture, the first that fits.
STAND_INS = {
    "Llama-3.2": "llama3.2-1b",
    "SmolLM2": "llama3.2-1b",
    "Llama-3": "llama3-8b",
    "Mistral": "mistral",
    "Qwen3": "qwen3",
    "Qwen2": "qwen2",
    "llava-next": "LlavaNextForConditionalGeneration",
}


FILES = sorted(FOLDER.glob("*.yaml"))
MATRICES = [each for each in FILES if is_matrix(each)]
SINGLE = [each for each in FILES if each not in MATRICES]
# A matrix -> those of the single recipes that its members are.
MADE = {
    "family_smollm2": re.compile(
        r"quickstart_(?!gptq_4bit_llava|.*(lora|peqa|low_rank|fp4|fp8)).*"
    ),
    "study_llama3_8b": re.compile(
        r"(?!bitsandbytes|.*(lora|peqa|low_rank|demo|quick))[a-z_]+[0-9.]+bit"
    ),
    "study_llama3_70b": re.compile(r".*_70b"),
    "study_llava_next_8b": re.compile(r"llava_next_8b_.*"),
}


@pytest.fixture(params=SINGLE, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def model_like(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Recipe], Path]:
    """Give a function that makes the tiny model of a recipe's architecture, each once."""

    @cache
    def seeing(architecture: str) -> Path:
        folder = tmp_path_factory.mktemp("seeing")
        save_tiny_vision_model(architecture, folder, **WIDE)
        return folder

    def made(recipe: Recipe) -> Path:
        model = recipe.model.hub or recipe.model.base_model or ""
        tiny = next(tiny for known, tiny in STAND_INS.items() if known in model)
        return seeing(tiny) if tiny in VISION_FAMILIES else tiny_model(tiny)

    return made


def with_text(recipe: Recipe, folder: Path) -> Recipe:
    """Write what a recipe calibrates on where that is a file that its reader makes first."""
    calibration = recipe.calibration
    if calibration is None or calibration.dataset is None or calibration.dataset.file is None:
        return recipe
    turns = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "Yes"}]
    file = folder / calibration.dataset.file.name
    file.write_text(f"{json.dumps({'messages': turns})}\n" * calibration.samples)
    dataset = calibration.dataset.model_copy(update={"file": file})
    changed = calibration.model_copy(update={"dataset": dataset})
    return recipe.model_copy(update={"calibration": changed})


def test_a_recipe_is_planned_with_a_tiny_model_of_its_architecture(
    path: Path, model_like: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    recipe = with_text(read(path), tmp_path)
    model = ModelSection(folder=model_like(recipe))

    planned = plan(recipe.model_copy(update={"model": model}), tmp_path / "run", Client())

    # A tiny model's shapes weigh up to half a bit more than a big one's, and what a paper calls its
    # bits may leave out flags and scales. Shifts have a table of their own.
    bits = recipe.method.nominal_bits
    more = (0.75 if bits >= 3 else 2.25) + (0.5 if getattr(recipe.method, "shift", False) else 0)
    assert bits < planned.linear_bits < bits + more
    assert (planned.vision is not None) == ("llava" in path.stem)


def said(recipe: Recipe) -> dict[str, object]:
    """Return what a recipe says, but its name and what it must reach."""
    evaluate = recipe.evaluate.model_copy(update={"require": RequireSection()})
    return recipe.model_copy(update={"name": "", "evaluate": evaluate}).model_dump(mode="json")


def listed(recipes: Iterable[Recipe]) -> list[str]:
    """List methods and bits in their order."""
    return sorted(f"{each.method_name} {each.method.nominal_bits:.2g}" for each in recipes)


@pytest.mark.parametrize("name", MADE)
def test_the_recipes_of_a_matrix_are_the_single_ones(name: str) -> None:
    members = [each.recipe for each in read_matrix(FOLDER / f"{name}.yaml").members]
    alone = [read(each) for each in SINGLE if MADE[name].fullmatch(each.stem)]

    missing = [each.name for each in alone if said(each) not in map(said, members)]

    assert sorted(MADE) == [each.stem for each in MATRICES]
    assert missing == []
    # Of LLaMA3-70B the study has three more methods at three widths, without recipes of their own.
    more = [f"{method} {bits}" for method in ("awq", "gptq", "rtn") for bits in (2, 3, 4)]
    expected = listed(alone) + (more if name == "study_llama3_70b" else [])
    assert listed(members) == sorted(expected)


@pytest.mark.parametrize("name", MADE)
def test_a_matrix_is_planned_with_a_tiny_model_of_its_architecture(
    name: str, model_like: Callable[[Recipe], Path]
) -> None:
    members = read_matrix(FOLDER / f"{name}.yaml").members
    model = ModelSection(folder=model_like(members[0].recipe), base_model="acme/tiny")
    tiny = [
        each._replace(recipe=each.recipe.model_copy(update={"model": model})) for each in members
    ]

    planned = plan_members(tiny, Client())

    assert len({each.plan.repo for each in planned}) == len(members)


@pytest.mark.parametrize("path", MATRICES, ids=lambda path: path.stem)
def test_a_matrix_is_shaped_like_a_recipe(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert lines[0].startswith("# For ")
    assert len(lines) <= 35
    jsonschema.validate(yaml.safe_load("\n".join(lines)), schema())


def test_a_recipe_is_valid_by_the_schema_that_editors_use(path: Path) -> None:
    values = yaml.safe_load(path.read_text())

    jsonschema.validate(values, schema())


def test_a_recipe_says_in_its_first_line_for_whom_it_is(path: Path) -> None:
    first = path.read_text().splitlines()[0]

    assert first.startswith("# For ")


def test_a_recipe_fits_on_a_screen(path: Path) -> None:
    assert 12 <= len(path.read_text().splitlines()) <= 25


def test_a_recipes_name_tells_method_or_adapter_and_bits(path: Path) -> None:
    recipe = read(path)

    named = NAME.fullmatch(path.stem)

    assert named is not None
    assert named["method"] == (recipe.adapter_name or recipe.method_name)
    assert float(named["bits"]) == pytest.approx(recipe.method.nominal_bits, abs=0.05)


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    values = {"model": "a/b", "method": {"name": "rtn", "bitz": 4}, "publish": {"org": "me"}}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema())
