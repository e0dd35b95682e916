"""All of a recipe's mistakes at once, each with its line and the way out."""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue

from hubq.errors import UserError, did_you_mean
from hubq.records.yaml_lines import MarkedYaml, Place

Mistake = tuple[int, str]  # line and sentence
NOT_WRITTEN: dict[str, JsonValue] = {
    "written": False
}  # json_schema_extra of a field that a recipe's text doesn't have


def refuse(title: str, mistakes: Iterable[Mistake]) -> UserError:
    """Return the error that lists mistakes in the order of their lines."""
    ordered = sorted(set(mistakes))
    width = len(str(ordered[-1][0]))
    lines = [f"  line {line:<{width}}  {sentence}" for line, sentence in ordered]
    return UserError("\n".join([f"{title} is no recipe:", *lines]))


def explain(
    errors: Iterable[Mapping[str, Any]], model: type[BaseModel], marked: MarkedYaml, *above: str
) -> list[Mistake]:
    """Turn pydantic's errors about a model, found below the place `above`, into sentences."""
    return [
        (marked.line((*above, *error["loc"])), _sentence(error, model, above)) for error in errors
    ]


def _sentence(error: Mapping[str, Any], model: type[BaseModel], above: Place) -> str:
    place: Place = error["loc"]
    dotted = ".".join(map(str, (*above, *place))) or "recipe"
    written, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return (
                f"{dotted}: no such option; {did_you_mean(str(place[-1]), options(model, place))}"
            )
        case "missing":
            return f"{dotted}: is missing"
        case "literal_error":
            return f"{dotted}: must be {context['expected']}; you wrote {written}"
        case "value_error":
            return f"{dotted}: {context['error']}"
        case "string_pattern_mismatch":
            return f"{dotted}: must look like {context['pattern']}; you wrote {written}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{dotted}: must be a mapping of options; you wrote {written}"
        case _:
            message = str(error["msg"]).removeprefix("Input ").replace("should be", "must be")
            message = message.replace("a valid tuple", "a list")  # as YAML calls it
            return f"{dotted}: {message}; you wrote {written}"


def options(model: type[BaseModel], place: Place) -> list[str]:
    """List the options beside the last key of a place in a model."""
    for key in place[:-1]:
        if isinstance(key, str):
            model = _model_in(model.model_fields[key].annotation) or model
    fields = model.model_fields.items()
    return [name for name, field in fields if field.json_schema_extra != NOT_WRITTEN]


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    """Find the one model in an annotation such as `tuple[PerplexitySection, ...]`."""
    if get_origin(annotation) in (Union, UnionType, tuple, list):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None
