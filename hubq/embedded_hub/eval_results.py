"""Results of benchmarks in a repo's `.eval_results/*.yaml`.

A file of results that is not valid can be committed; the list says what is wrong with it.
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
from hubq.records.model_index import object_errors
from hubq.records.parsing import json_value, read_yaml, utf8_text

FILES = ".eval_results/*.yaml"
# huggingface.co/docs/hub/eval-results: what an entry may say.
KEYS = ("dataset", "value", "verifyToken", "date", "source", "evaluation_framework", "notes")
_DATASET = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")


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
