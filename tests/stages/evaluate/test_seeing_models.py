"""Models that see, measured on pictures beside their base, and what else there is of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_hub import COMMIT, data_hub
from made_pictures import mme_rows, parquet, with_pictures
from progress_recorder import Recorder
from safetensors.torch import load_file, save_file

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.report import Measured, Measurement
from hubq.stages.evaluate.against_base import ModelPair, measured
from hubq.stages.evaluate.measure import Machine, outcome_file
from hubq.stages.evaluate.measurements.pictures import PictureTask, picture_task
from hubq.stages.evaluate.picture_tasks.mme import SUMS

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NEXT = "LlavaNextForConditionalGeneration"
TASKS = ["hubq_charts", "hubq_choices", "hubq_yes_no"]


def section(**changes: object) -> EvaluateSection:
    values = {"tasks": TASKS, "limit": 3, "fidelity": None, "efficiency": None}
    return EvaluateSection.model_validate(values | changes)


@pytest.fixture
def pair(tiny_vision_model: Callable[[str], Path], tmp_path: Path) -> ModelPair:
    """A model that sees, and a copy whose language part is another."""
    base, result = tiny_vision_model(NEXT), tmp_path / "result"
    shutil.copytree(base, result)
    file = result / "model.safetensors"
    tensors = load_file(file)
    changed = {
        name: each.flip(0) if name.endswith("down_proj.weight") else each
        for name, each in tensors.items()
    }
    save_file(changed, file, {"format": "pt"})
    return ModelPair(result, base, "bfloat16")


def only(found: Measured, task: str, metric: str) -> Measurement:
    (one,) = (each for each in found.measurements if (each.task, each.metric) == (task, metric))
    return one


# Four processes load a model, which takes seconds.
def test_drawn_tasks_and_texts_are_measured_of_base_and_result_without_a_network(
    pair: ModelPair, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The llama went home and ate the grass of the hill. " * 20)
    asked = section(perplexity=[{"dataset": str(text), "length": 32, "windows": 4}])
    recorder, again = Recorder(), Recorder()

    found = measured(pair, asked, NOWHERE, recorder)
    remembered = measured(pair, asked, NOWHERE, again)

    assert [(each.task, each.metric, each.samples) for each in found.measurements] == [
        ("perplexity", "perplexity", 4),
        ("hubq_charts", "relaxed_accuracy", 3),
        ("hubq_choices", "circular_accuracy", 3),
        ("hubq_yes_no", "acc", 6),
        ("hubq_yes_no", "acc+", 3),
        ("hubq_yes_no", "score", 3),
    ]
    assert only(found, "perplexity", "perplexity").value > 1
    assert all(each.paired for each in found.measurements)
    flips = only(found, "hubq_yes_no", "acc").flips
    assert flips is not None
    assert flips.changed > 0  # the copy says something else
    assert recorder.totals["quantized: hubq_yes_no"] == recorder.steps["base: hubq_yes_no"] == 6
    assert (remembered.measurements, again.titles) == (found.measurements, [])


# Workers fetch the data from the Hub, as they do for lm-eval's tasks: seconds again.
def test_mme_is_measured_of_base_and_result_at_one_commit_of_its_data(pair: ModelPair) -> None:
    categories = [each for some in SUMS.values() for each in some]
    content = parquet(with_pictures(mme_rows(1, categories)))

    with data_hub({"data/test-00000-of-00001.parquet": content}) as (client, paths):
        found = measured(pair, section(tasks=["mme"]), client, Recorder())

    assert [each.metric for each in found.measurements if each.task == "mme"] == [
        *("perception", "cognition", "acc", "acc+"),
    ]
    members = [each for each in found.measurements if found.is_member(each)]
    assert [each.task for each in members] == [f"mme_{category}" for category in categories]
    perception = only(found, "mme", "perception")
    assert (perception.samples, perception.chance, perception.dataset) == (
        *(10, 750, "lmms-lab/MME (test)"),
    )
    assert perception.version.startswith(f"lmms-lab/MME@{COMMIT} (task ")
    assert "the first 3 pictures of each part" in perception.protocol
    assert "to say yes to everything gives 500" in perception.protocol
    assert all("/datasets/lmms-lab/MME/" in each for each in paths if "resolve" in each)


@pytest.mark.parametrize(
    "changed",
    [
        {"limit": 2},
        {"seed": 1},
        {"pillow": "1.0"},
        {"definition": "0" * 64},
        {"revision": "0" * 40},
        {"name": "hubq_documents"},
    ],
)
def test_an_outcome_is_known_by_all_that_can_change_it(
    changed: dict[str, Any], pair: ModelPair
) -> None:
    (task, *_) = (picture_task(each, section()) for each in section().tasks)
    other = PictureTask.model_validate(task.model_dump() | changed)

    files = {outcome_file(pair.base, each, Machine("cpu", "float32")) for each in (task, other)}

    assert len(files) == 2


def test_the_processor_of_a_folder_can_change_an_outcome(pair: ModelPair) -> None:
    (task, *_) = (picture_task(each, section()) for each in section().tasks)
    where, settings = Machine("cpu", "float32"), pair.result / "preprocessor_config.json"
    before = outcome_file(pair.result, task, where)

    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"do_normalize": False}))

    assert outcome_file(pair.result, task, where) != before


def test_a_model_that_reads_text_alone_is_refused_at_once(
    tiny_model: Callable[[str], Path], pair: ModelPair
) -> None:
    text = tiny_model("llama")

    for both in (pair._replace(result=text), pair._replace(base=text)):
        with pytest.raises(UserError, match=f"hubq_yes_no ask about pictures, and {text} reads"):
            measured(both, section(), NOWHERE, Recorder())
