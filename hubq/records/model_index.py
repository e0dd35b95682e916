"""What a card's model-index must hold, in the Hub's words, with the place of each mistake."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

DATASET_TYPE = re.compile(r"(?:[\w-]+/)?[\w.-]+", re.ASCII)


def model_index_errors(given: object) -> Iterator[str]:
    """Say what is missing or misplaced in a card's model-index, in the Hub's words."""
    if not isinstance(given, list):
        yield '"model-index" must be an array'
        return
    for number, model in enumerate(given):
        place = f"model-index[{number}]"
        if not isinstance(model, dict):
            yield f'"{place}" must be of type object'
            continue
        yield from text_errors(model, place, required=("name",))
        yield from _array(model, place, "results", _result)


def _result(result: Mapping[str, Any], place: str) -> Iterator[str]:
    """Check one result: a task, a data set and numbers."""
    yield from object_errors(result, place, "task", required=("type",), optional=("name",))
    yield from object_errors(
        result,
        place,
        "dataset",
        required=("type", "name"),
        optional=("config", "split", "revision"),
    )
    named = result.get("dataset")
    kind = named.get("type") if isinstance(named, dict) else None
    if isinstance(kind, str) and kind and not DATASET_TYPE.fullmatch(kind):
        yield (
            f'"{place}.dataset.type" with value "{kind}" fails to match the required pattern: '
            r"/^(?:[\w-]+\/)?[\w-.]+$/"
        )
    yield from _array(result, place, "metrics", _metric)
    if "source" in result:
        yield from object_errors(result, place, "source", required=("url",), optional=("name",))


def _metric(metric: Mapping[str, Any], place: str) -> Iterator[str]:
    """Check one number: its kind and its value."""
    yield from text_errors(metric, place, required=("type",), optional=("name", "config"))
    if metric.get("value") is None:
        yield f'"{place}.value" is required'


def _array(given: Mapping[str, Any], place: str, key: str, rule: Any) -> Iterator[str]:  # noqa: ANN401
    """Check a required array of objects by the rule for each."""
    if key not in given:
        yield f'"{place}.{key}" is required'
        return
    if not isinstance(given[key], list):
        yield f'"{place}.{key}" must be an array'
        return
    for number, each in enumerate(given[key]):
        inner = f"{place}.{key}[{number}]"
        if isinstance(each, dict):
            yield from rule(each, inner)
        else:
            yield f'"{inner}" must be of type object'


def object_errors(
    given: Mapping[str, Any],
    place: str,
    key: str,
    *,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> Iterator[str]:
    """Check a required object of texts; `place` is where `given` stands, empty at the top."""
    inner = f"{place}.{key}".removeprefix(".")
    if key not in given:
        yield f'"{inner}" is required'
    elif not isinstance(given[key], dict):
        yield f'"{inner}" must be of type object'
    else:
        yield from text_errors(given[key], inner, required, optional)


def text_errors(
    given: Mapping[str, Any],
    place: str,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> Iterator[str]:
    """Check that texts are there and are texts."""
    for key in (*required, *optional):
        if key not in given:
            if key in required:
                yield f'"{place}.{key}" is required'
        elif not isinstance(given[key], str):
            yield f'"{place}.{key}" must be a string'
        elif not given[key]:
            yield f'"{place}.{key}" is not allowed to be empty'
