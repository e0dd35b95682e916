"""What a plan says of the engines that will load its result."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hubq.client.client import Client
from hubq.stages.plan.plan import plan
from hubq.stages.plan.will_load import verdict_on
from hubq.stages.recipe.recipe import Recipe

pytestmark = pytest.mark.usefixtures("nothing_tried")
NOWHERE = Client(endpoint="http://127.0.0.1:9")
AWQ = {"name": "rtn", "bits": 4, "group_size": 32, "symmetric": False}
GPTQ_3 = {"name": "rtn", "bits": 3, "group_size": 32, "symmetric": True}


@pytest.mark.parametrize(
    ("changes", "stopped"),
    [
        ({}, {}),
        ({"format": "awq", "method": AWQ}, {"llama.cpp": ("format-not-read",)}),
        (
            {"format": "gptq", "method": GPTQ_3},
            {"vLLM": ("no-kernel",), "SGLang": ("no-kernel",), "llama.cpp": ("no-kernel",)},
        ),
        ({"format": "dense"}, {}),
        (
            {"format": "hubq", "embeddings": 8},
            dict.fromkeys(("vLLM", "SGLang", "llama.cpp"), ("format-not-read",)),
        ),
    ],
)
@pytest.mark.parametrize("model", ["llama", "llama3.2"])
def test_a_plan_knows_which_engines_will_load_what_it_makes(
    model: str,
    changes: dict[str, object],
    stopped: dict[str, tuple[str, ...]],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    values: dict[str, object] = {
        "name": "tiny",
        "model": {"folder": tiny_model(model)},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "publish": {"org": "me"},
    }
    planned = plan(Recipe.model_validate(values | changes), tmp_path, NOWHERE)

    found = verdict_on(planned)

    assert {engine: rules for engine, rules in found.engines.items() if rules} == stopped
    assert found.errors == ()
