"""Recipes that chance made: each is read or refused with its mistakes, soon, never a traceback."""

from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from hubq.errors import UserError
from hubq.methods import method_class, methods
from hubq.records.yaml_lines import RECIPE
from hubq.stages.recipe.recipe import Recipe, read

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 4, 4.0, 1e300, 2**70, "", "4", "yes", "a/b", "a/b@c", "c4"),
    *("./x", "~/x", "~nobody/x", "/", "\x7f", "é模", "x" * 300, {}, [], [[]], ["c4"], {"a": 1}),
    *({"name": "rtn"}, {"hub": "a/b"}, {"dataset": "c4"}, "2024-05-01", "hf.co/a/b", "..", "c--d"),
]
SYNTAX = "\t\n :-[]{}&*!|>%@`'\"#,?\\\u2028\ufeff\x00"
SECTIONS = ("model", "calibration", "evaluate", "publish", "format", "embeddings", "name", "x")


def drawn(random: Random) -> dict[str, Any]:
    """Draw a recipe, most of which makes sense."""
    name = random.choice(methods())
    option = random.choice(sorted(method_class(name).model_fields))
    base = {"hub": "a/b", "base_model": "a/b"}
    values: dict[str, Any] = {
        "model": random.choice(["a/b", "./m", base]),
        "method": {"name": name} | random.choice([{}, {}, {option: random.choice(VALUES)}]),
        "calibration": {"dataset": "c4", "seed": random.choice([0, 1, *VALUES[:4]])},
        "evaluate": {"perplexity": ["c4"], random.choice(["limit", "seed"]): 3},
        "publish": {"org": "me"},
    }
    for _ in range(random.randint(0, 2)):
        section = values.get(random.choice(SECTIONS))
        place = section if isinstance(section, dict) else values
        place[random.choice(SECTIONS)] = random.choice(VALUES)
    return values


def mangled(text: str, random: Random) -> str:
    """Put some syntax where it doesn't belong."""
    letters = list(text)
    for _ in range(random.randint(0, 6)):
        place = random.randrange(len(letters) + 1)
        letters[place : place + random.randint(0, 2)] = random.choices(
            SYNTAX, k=random.randint(0, 3)
        )
    return "".join(letters)


@pytest.mark.parametrize("seed", range(10))
def test_a_drawn_recipe_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    path = tmp_path / "mine.yaml"
    read_at_all = 0
    for _ in range(60):
        text = yaml.safe_dump(drawn(random), allow_unicode=True)
        path.write_text(random.choice([text, mangled(text, random)]))

        with suppress(UserError):
            recipe = read(path)

            assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
            read_at_all += 1
    assert read_at_all


@pytest.mark.parametrize("seed", range(6))
def test_a_long_row_of_syntax_is_refused_soon(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    path = tmp_path / "mine.yaml"
    for _ in range(4):
        piece = "".join(random.choices(SYNTAX + "ab1", k=random.randint(1, 4)))
        length = random.choice([90_000, RECIPE.characters + 1])
        path.write_text(f"a: {piece * length}"[:length])

        with pytest.raises(UserError):
            read(path)
