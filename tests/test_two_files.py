"""What is new is one file or one entry: a task, a kind of measurement and a family, all measured.

`tests/test_docs.py` does the same with the method and the format that pages show.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny_model

from hubq.records.report import Measurement, Report
from hubq.records.run_folder import REPORT
from hubq.sources.task_names import ASKED_BY_KEY, measurements
from hubq.stages.evaluate.measurements import kinds, task_class

NOWHERE = "http://127.0.0.1:9"
ROOT = Path(__file__).parents[1]
TASK = """# Which colour things have.
task: hubq_colours
dataset_path: json
dataset_kwargs:
  data_files: {items}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{thing}}}} is"
doc_to_target: answer
doc_to_choice: [green, red]
metric_list:
  - metric: acc
metadata:
  version: 1
"""
ITEMS = [{"thing": "Grass", "answer": 0}, {"thing": "Blood", "answer": 1}]
KIND = '''
"""How varied what a model writes is."""

from pathlib import Path
from typing import ClassVar, Literal

from hubq.machine.progress import Progress
from hubq.records.recipe_evaluate import EvaluateSection, TaskSection
from hubq.stages.evaluate.inference.greedy_decoding import drawn_prompts
from hubq.stages.evaluate.task import Found, MeasuredModel, Score, Task


class VarietyTask(Task):
    """The share of distinct tokens among those that follow a prompt, chosen greedily."""

    kind: Literal["variety"] = "variety"
    protocol_version: ClassVar = 1

    prompts: int
    tokens: int

    @classmethod
    def asked(cls, task: TaskSection, section: EvaluateSection) -> Task:
        """Ask as many prompts as the recipe limits tasks to."""
        return cls(prompts=section.limit or 8, tokens=10)

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Generate, and count."""
        import torch

        prompts = drawn_prompts(model.passes.model, self.prompts, 4)
        with progress.task(self.title, 1) as advance:
            rows = model.passes.model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=self.tokens,
                min_new_tokens=self.tokens,
                do_sample=False,
            )[:, 4:]
            advance(1)
        shares = [len(set(row)) / self.tokens for row in rows.tolist()]
        score = Score(
            task="variety",
            dataset="drawn tokens",
            metric="distinct",
            better="higher",
            dimension="knowledge",
            value=sum(shares) / len(shares),
            stderr=None,
            samples=len(shares),
            protocol=f"{self.tokens} tokens after 4 drawn ones",
            version="1",
            items=tuple(shares),
        )
        return Found(scores=(score,))
'''
FAMILIES = "FAMILIES: Mapping[str, Family] = {\n"
FAMILY = '    "GraniteForCausalLM": Family("Granite", _LLAMA_GROUPS),\n'
RECIPE = {
    "model": {"folder": "./base", "base_model": "acme/tiny"},
    "method": {"name": "rtn", "bits": 4, "group_size": 32},
    "evaluate": {
        "tasks": ["hubq_colours", "variety"],
        "limit": 6,
        "fidelity": None,
        "efficiency": None,
    },
    "publish": {"org": "acme"},
}


# Takes some seconds: new processes import torch and transformers.
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure a model of a new family by a new task and a new kind, in a copy of hubq."""
    folder = tmp_path_factory.mktemp("two_files")
    package = shutil.copytree(
        ROOT / "hubq", folder / "hubq", ignore=shutil.ignore_patterns("__pycache__")
    )
    items = folder / "items.jsonl"
    items.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (package / "sources/tasks/hubq_colours.yaml").write_text(TASK.format(items=items))
    (package / "stages/evaluate/measurements/variety.py").write_text(KIND)
    table = package / "sources/architecture.py"
    table.write_text(table.read_text().replace(FAMILIES, FAMILIES + FAMILY))
    save_tiny_model("granite", folder / "base")
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))

    subprocess.run(
        [sys.executable, "-m", "hubq", "card", "recipe.yaml", "--run", "run"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "HUBQ_CACHE": str(folder / "cache"),
            "HF_ENDPOINT": NOWHERE,
        },
        check=True,
        capture_output=True,
        text=True,
    )

    return folder / "run"


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return Report.load(run / REPORT)


def measured(report: Report, task: str) -> Measurement:
    (found,) = (each for each in report.measurements if each.task == task)
    return found


def test_a_new_family_is_one_entry(report: Report) -> None:
    assert report.plan.architecture == "GraniteForCausalLM"
    assert len(report.checkpoint.layers) == 2 * 7
    assert all(0 < (layer.weight_error or 0) < 0.1 for layer in report.checkpoint.layers)


def test_a_new_task_is_one_file(report: Report) -> None:
    found = measured(report, "hubq_colours")

    assert (found.metric, found.samples, found.paired) == ("acc", len(ITEMS), True)
    assert {found.base, found.value} <= {0.0, 0.5, 1.0}


def test_a_new_kind_of_measurement_is_one_file_with_its_place_in_the_card(
    run: Path, report: Report
) -> None:
    found = measured(report, "variety")

    assert (found.samples, found.paired) == (6, True)
    assert 0.1 <= found.base <= 1
    assert found.difference is not None
    assert found.difference.value == found.value - found.base
    assert "variety" in (run / "README.md").read_text()


def test_each_kind_is_asked_for_by_a_key_or_by_its_name() -> None:
    by_key = {kind for kind in kinds() if "asked" not in vars(task_class(kind))}

    assert by_key == ASKED_BY_KEY
    assert {*kinds()} - by_key == {*measurements()}
