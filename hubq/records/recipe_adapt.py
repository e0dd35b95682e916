"""What a recipe's adapter learns from: instruction pairs, and how they become tokens."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from hubq.records.recipe_inputs import WheelFile, exactly_one, named_on_hub, names_a_file, resolved
from hubq.records.record import AsWritten, Record

Template = Literal["alpaca", "chat", "plain"]


class InstructionSection(AsWritten, Record):
    """Instruction pairs: exactly one of hub, file, wheel and tasks.

    A row has instruction, perhaps input, and output; or prompt and completion; or messages.
    """

    hub: str | None = Field(None, description="Hub data set id, with an optional @revision")
    file: Path | None = Field(
        None, description="jsonl, json, csv, tsv or parquet file; .gz and .zst too"
    )
    wheel: WheelFile | None = None
    tasks: tuple[str, ...] | None = Field(
        None, min_length=1, description="tasks of hubq whose questions and answers make the pairs"
    )
    subset: str | None = Field(
        None, description="subset of a Hub data set: a config that its card names, or a folder"
    )
    split: str | None = Field(None, description="split of a Hub data set; default: train")
    license: str | None = Field(
        None, description="license id of the data, if its card names none or a wrong one"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `dataset: org/name` and `dataset: ./pairs.jsonl`."""
        if not isinstance(value, str):
            return value
        is_file = names_a_file(value) or "/" not in value
        return {"file": value} if is_file else {"hub": value}

    _on_hub = field_validator("hub")(named_on_hub)
    _resolve = field_validator("file")(resolved)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return exactly_one(self, ("hub", "file", "wheel", "tasks"))


class Lessons(AsWritten):
    """Which pairs are taken, and how each becomes tokens."""

    dataset: InstructionSection
    template: Template = Field(
        "alpaca",
        description="how a pair is laid out: by Alpaca's words, by the model's chat template, or "
        "plain, a text and what follows it",
    )
    source_length: int = Field(384, ge=1, description="tokens of a prompt at most")
    target_length: int = Field(128, ge=1, description="tokens of an answer at most")
    held_out: int = Field(
        128, ge=0, description="pairs that are not trained on, to measure what was learnt"
    )
    seed: int = Field(42, ge=0, le=2**32 - 1, description="of the pairs' order, and of dropout")
