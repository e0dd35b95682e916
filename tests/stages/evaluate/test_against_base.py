"""What a section asks for, as tasks."""

from pathlib import Path

from data_hub import COMMIT, data_hub

from hubq.records.recipe_evaluate import EvaluateSection
from hubq.sources.texts.corpus import Corpus
from hubq.stages.evaluate.against_base import named_tasks, perplexities_of
from hubq.stages.evaluate.jobs import Order
from hubq.stages.evaluate.measure import Machine, in_turn, outcome_file
from hubq.stages.evaluate.measurements.pictures import PictureTask

TEXT = Corpus("The llama went home.", "a text", "1")


def test_c4_is_measured_on_as_many_tokens_as_papers_take_unless_windows_are_asked_for() -> None:
    asked = [
        "c4",
        {"dataset": "c4", "length": 512},
        {"dataset": "c4", "windows": 7},
        "wikitext2",
    ]
    section = EvaluateSection.model_validate({"perplexity": asked})

    tasks = perplexities_of(section, [TEXT] * len(asked))

    assert [task.at_most for task in tasks] == [256, 1024, None, None]


def test_a_capped_text_is_known_apart_from_the_whole_one(tmp_path: Path) -> None:
    (whole,) = perplexities_of(EvaluateSection.model_validate({"perplexity": ["ptb"]}), [TEXT])
    capped = whole.model_copy(update={"at_most": 3})

    files = {outcome_file(tmp_path, task, Machine("cpu", "float32")) for task in (whole, capped)}

    assert len(files) == 2


def test_a_name_that_lm_eval_has_too_is_that_of_the_task_on_pictures() -> None:
    section = EvaluateSection.model_validate({"tasks": ["chartqa", "hubq_piqa"]})

    assert [task.kind for task in named_tasks(section)] == ["pictures", "choice"]


def test_the_data_of_a_task_on_pictures_is_pinned_when_it_is_measured() -> None:
    section = EvaluateSection.model_validate({"tasks": ["ai2d", "hubq_charts"]})

    with data_hub({"data/test-00000-of-00001.parquet": b""}) as (client, _):
        pinned, drawn = named_tasks(section, client)

    assert isinstance(pinned, PictureTask)
    assert isinstance(drawn, PictureTask)
    assert (pinned.revision, drawn.revision) == (COMMIT, None)


def test_the_task_that_takes_longest_is_begun_first(tmp_path: Path) -> None:
    section = EvaluateSection.model_validate({"tasks": ["hubq_piqa", "ai2d", "docvqa"]})
    orders = [Order(task=task, outcome=tmp_path / "any") for task in named_tasks(section)]

    assert [order.task.title for order in in_turn(orders)] == ["docvqa", "ai2d", "hubq_piqa"]
