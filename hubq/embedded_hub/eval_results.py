"""Results of benchmarks: in a card's model-index, and in a repo's `.eval_results/*.yaml`.

An invalid model-index stops a commit, in the Hub's words with the place. A file of results that is
not valid can be committed; the list says what is wrong with it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

import yaml
from dulwich.repo import Repo

from hubq.embedded_hub.history import Entry, read_blob
from hubq.embedded_hub.parsing import json_value, read_yaml, utf8_text

DATASET_TYPE = re.compile(r"(?:[\w-]+/)?[\w.-]+", re.ASCII)
FILES = ".eval_results/*.yaml"
# huggingface.co/docs/hub/eval-results: what an entry may say.
KEYS = ("dataset", "value", "verifyToken", "date", "source", "evaluation_framework", "notes")
_DATASET = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")


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


def list_results(git: Repo, entries: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """List the results in a commit's files, or what is wrong with a file."""
    paths = sorted(path for path in entries if fnmatchcase(path, FILES))
    return [answer for path in paths for answer in _read(path, read_blob(git, entries[path].blob))]


def _read(path: str, content: bytes) -> Iterator[dict[str, Any]]:
    try:
        results = read_yaml(content.decode(errors="replace"))
    except yaml.YAMLError as error:
        yield {"filename": path, "error": f"Invalid YAML: {utf8_text(error)}"}
        return
    if not isinstance(results, list):
        yield {"filename": path, "error": "must be an array"}
        return
    for number, entry in enumerate(results):
        if (wrong := next(entry_errors(entry), None)) is not None:
            yield {"filename": path, "error": f"[{number}]: {utf8_text(wrong)}"}
        else:
            yield {"filename": path, "verified": False, "data": json_value(entry)}


def entry_errors(entry: object) -> Iterator[str]:
    """Say what is wrong with one result."""
    if not isinstance(entry, dict):
        yield "must be of type object"
        return
    yield from (f'"{key}" is not allowed' for key in entry if key not in KEYS)
    yield from object_errors(
        entry, "", "dataset", required=("id", "task_id"), optional=("revision",)
    )
    dataset = entry.get("dataset")
    named = dataset.get("id") if isinstance(dataset, dict) else None
    if isinstance(named, str) and not _DATASET.fullmatch(named):
        yield f'"dataset.id" with value "{named}" is not a data set id'
    if not _is_number(entry.get("value")):
        yield '"value" must be a number'
    if "source" in entry:
        yield from object_errors(
            entry, "", "source", required=("url",), optional=("name", "user", "org")
        )
    if "date" in entry and not _is_date(entry["date"]):
        yield '"date" must be in ISO 8601 date format'


def _is_number(value: object) -> bool:
    """Tell whether a value is a number that JSON can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_date(value: object) -> bool:
    """Tell whether a value is a date or a date and time, as YAML reads it or as text."""
    if isinstance(value, date):  # of which datetime is a kind
        return True
    return isinstance(value, str) and bool(_DATE.fullmatch(value))
