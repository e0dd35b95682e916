"""The quick start on an adapter's card runs. Importing peft takes seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_adapted import ADAPT, ADAPTED_REPO, adapted_report, made_adapted_plan
from test_code_blocks import FORMATS, NOWHERE, python

from hubq.records.adapted_report import AdaptedReport
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe


def quantized(name: str, base: Path, run: Path) -> AdaptedReport:
    """Quantize the tiny model into a format; return the report of an adapter of it."""
    form, method = FORMATS[name]
    values = {"model": {"folder": str(base), "base_model": "acme/tiny"}, "method": method}
    recipe = Recipe.model_validate(
        {"name": "mine", "format": form, "publish": {"org": "acme"}, **values}
    )
    planned = plan(recipe, run, NOWHERE)
    checkpoint = quantize(planned, run, NOWHERE)
    adapted = planned.model_copy(
        update={
            "repo": ADAPTED_REPO,
            "adaptation": made_adapted_plan().adaptation,
            "recipe": {**planned.recipe, "adapt": ADAPT},
        }
    )
    return adapted_report(plan=adapted, checkpoint=checkpoint)


def save_adapter(model: Path, folder: Path) -> None:
    """Write a random adapter of a model, as peft itself does."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    del config.quantization_config
    config.architectures = None
    dense = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(0)
    lora = LoraConfig(
        r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False,
        task_type="CAUSAL_LM", base_model_name_or_path=str(model),
    )  # fmt: skip
    adapter = get_peft_model(dense, lora)
    adapter.peft_config["default"].base_model_name_or_path = str(model)
    adapter.save_pretrained(str(folder))


# peft asks transformers for a property by its old name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["compressed-tensors, symmetric", "bitsandbytes", "hubq"])
def test_the_quick_start_of_an_adapter_runs_and_adds_to_what_the_model_says(
    name: str,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = quantized(name, tiny_model("llama"), tmp_path / "run")
    save_adapter(tmp_path / "run" / "model", tmp_path / "adapter")
    names: dict[str, Any] = {}

    (code,) = python(report)
    exec(code.replace(report.plan.repo, str(tmp_path / "adapter")), names)

    assert "### Instruction:\nWhat is a llama?" in capsys.readouterr().out
    model, inputs = names["model"], names["inputs"]
    with torch.no_grad():
        adapted = model(**inputs).logits
        with model.disable_adapter():
            plain = model(**inputs).logits
    assert not torch.equal(adapted, plain)
