"""What a section asks for, as tasks."""

from pathlib import Path

from hubq.records.recipe_evaluate import EvaluateSection
from hubq.sources.texts.corpus import Corpus
from hubq.stages.evaluate.against_base import perplexities_of
from hubq.stages.evaluate.measure import Machine, outcome_file

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
