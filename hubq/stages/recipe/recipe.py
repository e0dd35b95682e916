"""What you want: a YAML file, read and checked, with every mistake named at once."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from hubq.errors import UserError, did_you_mean
from hubq.formats import formats
from hubq.methods import Method, method_class, methods
from hubq.methods.adapters import Adapter, adapter_class, adapters
from hubq.methods.rtn import RTN
from hubq.records.recipe_calibration import CalibrationSection
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.recipe_inputs import FOLDER, ModelSection
from hubq.records.record import AsWritten, Record
from hubq.records.vocabulary import mistake_in_name
from hubq.records.yaml_lines import RECIPE, MarkedYaml, parse
from hubq.stages.recipe.validation_errors import NOT_WRITTEN, Mistake, explain, refuse

NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, undecodable bytes


class PublishSection(AsWritten, Record):
    """Where the result goes, and who may download it."""

    org: str
    name: str | None = Field(None, description="default: made from base, method and bits")
    private: bool = True
    gated: Literal["auto", "manual"] | None = Field(
        None,
        description="downloaders must request access: auto grants it to everyone who fills in the "
        "form, manual waits for your approval; the base's form is copied",
    )
    open_although_gated: bool = Field(
        False, description="publish a copy of a gated base openly, without a gate"
    )
    license: str | None = Field(
        None, description="license of the result, where the base's license allows another"
    )
    part: Literal["all", "language"] = Field(
        "all",
        description="of a model that sees: all of it, or its language part alone, which reads text",
    )
    adapted_name: str | None = Field(
        None, description="of what `adapt` makes; default: the quantized one's with the adapter's"
    )
    adapter_of: Literal["quantized", "base"] | None = Field(
        None,
        description="which repo an adapter belongs to: the 16-bit base, or (the default) the "
        "quantized one, which is published first or named by `quantized`",
    )
    quantized: str | None = Field(
        None,
        description="Hub id of the quantized repo as it is published already, with an optional "
        "@revision: it isn't published again",
    )

    collection: Annotated[str, Field(min_length=1, max_length=60)] | bool | None = Field(
        None,
        description="title of the organization's collection that it is added to; default: one for "
        "the base, made if it is missing; false: none",
    )

    @field_validator("org", "name", "adapted_name")
    @classmethod
    def _taken_by_the_hub(cls, name: str | None) -> str | None:
        if name is not None and (mistake := mistake_in_name(name)):
            raise ValueError(f"the Hub does not accept {name!r}: {mistake}")
        return name

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.gated and self.open_although_gated:
            raise ValueError("gated and open_although_gated contradict each other; keep one")
        return self


class Recipe(AsWritten, Record):
    """One recipe. Its `name` is the file's stem and names the run folder."""

    name: str = Field(json_schema_extra=NOT_WRITTEN)
    model: ModelSection
    method: SerializeAsAny[Method]
    format: str = "compressed-tensors"
    adapt: SerializeAsAny[Adapter] | None = Field(
        None, description="how the quantized model is taught or corrected before it is measured"
    )
    embeddings: Literal[16, 8, 4] = Field(16, description="bits of embeddings and lm_head, by RTN")
    kv_cache: Literal[16, "fp8"] = Field(
        16,
        description="in what engines hold keys and values: 16 bits, or fp8 by calibrated scales",
    )
    calibration: CalibrationSection | None = None
    evaluate: EvaluateSection = EvaluateSection()
    publish: PublishSection

    @property
    def method_name(self) -> str:
        """The method's name in recipes: its file's."""
        return _file_of(self.method)

    @property
    def reads_text(self) -> bool:
        """Whether the calibration text runs through the model."""
        return bool(self.method.needed) or self.kv_cache != 16

    @property
    def adapter_name(self) -> str | None:
        """The adapter's name in recipes: its file's; None: there is none."""
        return None if self.adapt is None else _file_of(self.adapt)

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
        return method_class(str(value.get("name"))).model_validate(_options(value))

    @field_validator("adapt", mode="before")
    @classmethod
    def _adapter_from_options(cls, value: object) -> object:
        """Read a saved recipe's adapter: its name and options."""
        if not isinstance(value, Mapping):
            return value
        return adapter_class(str(value.get("name"))).model_validate(_options(value))

    @field_serializer("method", "adapt")
    def _to_options(self, chosen: Method | Adapter | None) -> dict[str, Any] | None:
        if chosen is None:
            return None
        return {"name": _file_of(chosen), **chosen.model_dump(mode="json")}


def _file_of(chosen: Method | Adapter) -> str:
    """Return the name in recipes of a method or an adapter: its file's."""
    return type(chosen).__module__.rpartition(".")[2]


def _options(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that a section says beside a name."""
    return {key: each for key, each in written.items() if key != "name"}


MATRIX = "matrix"  # the section of a file that makes several recipes


def read(path: Path) -> Recipe:
    """Read and check a recipe; raise UserError that lists every mistake with its line.

    A file that makes several recipes is read by `hubq/stages/recipe/matrix.py`.
    """
    written = opened(path)
    if MATRIX in written.values:
        raise UserError(
            f"{path} makes several recipes (its section matrix).\n"
            f"See them with: hubq plan {path}\n"
            f"Make them with: hubq sweep {path}, which writes each to a file of its own"
        )
    publish = written.values.get("publish")
    if isinstance(publish, dict) and "only" in publish:
        line = written.marked.line(("publish", "only"))
        values = {key: each for key, each in publish.items() if key != "only"}
        written = written._replace(values={**written.values, "publish": values})
        mistake = "publish.only: chooses among the recipes of a matrix, and this is one; remove it"
        written.mistakes.append((line, mistake))
    recipe = checked(path.stem, written)
    if recipe is None or written.mistakes:
        raise refuse(str(path), written.mistakes)
    return recipe


class Written(NamedTuple):
    """A recipe's sections as somebody wrote them, and where a relative path in them begins."""

    values: dict[str, Any]
    marked: MarkedYaml
    mistakes: list[Mistake]
    folder: Path


def opened(path: Path) -> Written:
    """Read a recipe's YAML; raise UserError where it isn't a mapping of sections."""
    _require_plain_name(path)
    marked = parse(_text(path))
    mistakes: list[Mistake] = list(marked.mistakes)
    if not isinstance(marked.values, dict):
        mistakes = mistakes or [(1, "recipe: must be a mapping of sections: model, method, ...")]
        raise refuse(str(path), mistakes)
    values: dict[str, Any] = dict(marked.values)
    if "name" in values:
        mistakes.append((marked.line(("name",)), "name: not an option; the file's name is used"))
    return Written(values, marked, mistakes, path.parent.absolute())


def checked(name: str, written: Written) -> Recipe | None:
    """Check a recipe's sections; note its mistakes, and return None if there are any."""
    values, marked, mistakes = dict(written.values), written.marked, written.mistakes
    context = {FOLDER: written.folder}
    for section in (METHODS, ADAPTERS):
        if section.required or values.get(section.key) is not None:
            chosen = section.read(values.pop(section.key, None), marked, mistakes, context)
            values |= {} if chosen is None else {section.key: chosen}
    values |= {"name": name}
    try:
        return Recipe.model_validate(values, context=context)
    except ValidationError as error:
        # A method that is wrong has had its mistakes listed.
        others = [each for each in error.errors() if each["loc"] != ("method",)]
        mistakes += explain(others, Recipe, marked)
    return None


def _require_plain_name(path: Path) -> None:
    """Refuse a file whose name names no run folder, or whose path is no text."""
    absolute = str(path.absolute())
    if path.stem.startswith(".") or NO_TEXT.search(absolute):
        raise UserError(
            f"{absolute!r} can't be a recipe: the run folder gets its name, so it can't begin "
            "with a dot, and its path must be plain text. Rename it"
        )


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(RECIPE.characters + 1)  # one too many is told as such
    except FileNotFoundError as error:
        beside = sorted(each.name for each in path.parent.glob("*.yaml"))
        hint = f"; {did_you_mean(path.name, beside)}" if beside else ""
        raise UserError(f"there is no recipe {path}{hint}") from error
    except OSError as error:
        raise UserError(f"the recipe {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no recipe: it is not UTF-8 (byte {error.start})") from error


class Choice(NamedTuple):
    """A section that names a file of the house, whose class says which options there are."""

    key: str
    known: Callable[[], list[str]]
    kind: Callable[[str], type[Method] | type[Adapter]]
    required: bool

    def read(
        self,
        written: object,
        marked: MarkedYaml,
        mistakes: list[Mistake],
        context: Mapping[str, Path],
    ) -> Method | Adapter | None:
        """Check the section with its own class; note its mistakes and return None if it has any."""
        options = {"name": written} if isinstance(written, str) else written
        line = marked.line((self.key, "name"))
        known = self.known()
        if not isinstance(options, Mapping) or "name" not in options:
            missing = self.key if options is None else f"{self.key}.name"
            mistakes.append((line, f"{missing}: is missing; known: {', '.join(known)}"))
            return None
        name = options["name"]
        if name not in known:
            what = {"adapt": "adapter"}.get(self.key, self.key)
            nearest = did_you_mean(str(name), known)
            mistakes.append((line, f"{self.key}.name: no {what} is called {name}; {nearest}"))
            return None
        found = self.kind(name)
        try:
            return found.model_validate(_options(options), context=context)
        except ValidationError as error:
            mistakes += explain(error.errors(), found, marked, self.key)
            return None


METHODS = Choice("method", methods, method_class, required=True)
ADAPTERS = Choice("adapt", adapters, adapter_class, required=False)


def head_method(recipe: Recipe) -> Method:
    """Return what quantizes embeddings and head: RTN on the grid of the recipe's method.

    For a method without groups these are groups of 64, which divide the width of most models.
    """
    grid = {
        option: getattr(recipe.method, option)
        for option in ("group_size", "symmetric")
        if hasattr(recipe.method, option)
    }
    return RTN.model_validate({"bits": recipe.embeddings, "group_size": 64, **grid})
