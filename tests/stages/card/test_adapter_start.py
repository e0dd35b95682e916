"""The quick start on an adapter's card runs. Importing peft takes seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_adaptation import put_adapter
from made_taught import ADAPT, TAUGHT_REPO, taught_plan, taught_report
from test_code_blocks import FORMATS, NOWHERE, python

from hubq.records.adapted_report import AdaptedReport
from hubq.records.run_folder import ADAPTER_CONFIG
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
            "repo": TAUGHT_REPO,
            "adaptation": taught_plan().adaptation,
            "recipe": {**planned.recipe, "adapt": ADAPT},
        }
    )
    return taught_report(plan=adapted, checkpoint=checkpoint)


def save_adapter(report: AdaptedReport, model: Path, folder: Path) -> None:
    """Write a random adapter of a model's linears."""
    put_adapter(folder, {each.name: each.shape for each in report.plan.modules if each.quantized})
    config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    config["base_model_name_or_path"] = str(model)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config))


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
    save_adapter(report, tmp_path / "run" / "model", tmp_path / "adapter")
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
