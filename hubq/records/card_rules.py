"""What makes the metadata of a card invalid, or suspicious, in the Hub's eyes.

The Hub's own rules are not published. These follow its documentation and the complaints that are
to be seen on its pages and in reports of refused pushes, whose words they keep where known.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from hubq.records.model_index import model_index_errors
from hubq.records.parsing import read_yaml, split_card, utf8_text
from hubq.records.vocabulary import HUB_LICENSES, LICENSE_FILES, is_language

# huggingface.co/tasks, those of the pipeline_tag
TASKS = """
    any-to-any audio-classification audio-text-to-text audio-to-audio
    automatic-speech-recognition depth-estimation document-question-answering feature-extraction
    fill-mask graph-ml image-classification image-feature-extraction image-segmentation
    image-text-to-image image-text-to-text image-text-to-video image-to-3d image-to-image
    image-to-text image-to-video keypoint-detection mask-generation multiple-choice
    object-detection other question-answering reinforcement-learning robotics
    sentence-similarity summarization table-question-answering tabular-classification
    tabular-regression tabular-to-text text-classification text-generation text-ranking
    text-retrieval text-to-3d text-to-audio text-to-image text-to-speech text-to-video
    time-series-forecasting token-classification translation unconditional-image-generation
    video-classification video-text-to-text video-to-video visual-document-retrieval
    visual-question-answering voice-activity-detection zero-shot-classification
    zero-shot-image-classification zero-shot-object-detection
"""
RELATIONS = ("adapter", "merge", "quantized", "finetune")
SDKS = ("gradio", "streamlit", "docker", "static")
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
FIELDS = ("text", "checkbox", "date_picker", "country", "ip_location")  # "select" has options
EMPTY = (
    "empty or missing yaml metadata in repo card "
    "(https://huggingface.co/docs/hub/model-cards#model-card-metadata)"
)
STRINGS = ("pipeline_tag", "library_name", "license_name", "thumbnail", "new_version")
GATE_TEXTS = tuple(f"extra_gated_{key}" for key in ("heading", "prompt", "description"))
_REPO_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)


class Verdict:
    """The errors and the warnings about one card."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []


def validate(readme: str, kind: str) -> Verdict:
    """Check the YAML of a card by the rules for its kind of repo."""
    verdict = Verdict()
    front, _ = split_card(readme)
    if front is None or not front.strip():
        verdict.warnings.append(EMPTY)
        return verdict
    try:
        values = read_yaml(front)
    except yaml.YAMLError as error:
        verdict.errors.append(f"Invalid YAML in README.md: {utf8_text(error)}")
        return verdict
    if not isinstance(values, dict):
        verdict.errors.append("Invalid YAML in README.md: the metadata must be a mapping")
        return verdict
    verdict.errors += map(utf8_text, _errors(values, kind))
    verdict.warnings += map(utf8_text, _warnings(values))
    return verdict


def _errors(card: dict[str, Any], kind: str) -> Iterator[str]:
    yield from _license(card)
    yield from _languages(card)
    for key in (*STRINGS, *GATE_TEXTS, "extra_gated_button_content"):
        yield from _string(card, key)
    for key in ("tags", "widget"):
        yield from _array(card, key)
    yield from _gate_fields(card)
    if kind == "model":
        yield from _model(card)
    if kind == "space":
        yield from _space(card)


def _model(card: dict[str, Any]) -> Iterator[str]:
    yield from _repo_ids(card, "base_model", "Use a model id from https://hf.co/models.")
    yield from _repo_ids(
        card, "datasets", "If possible, use a dataset id from https://hf.co/datasets."
    )
    if "base_model_relation" in card and card["base_model_relation"] not in RELATIONS:
        yield f'"base_model_relation" must be one of [{", ".join(RELATIONS)}]'
    if "model-index" in card:
        yield from model_index_errors(card["model-index"])


def _warnings(card: dict[str, Any]) -> Iterator[str]:
    task = card.get("pipeline_tag")
    if isinstance(task, str) and task and task not in TASKS.split():
        yield f'The pipeline tag "{task}" is not in the official list: {", ".join(TASKS.split())}'
    if card.get("license") == "other" and not card.get("license_name"):
        yield '"license_name" is missing, though "license" is "other"'


def _license(card: dict[str, Any]) -> Iterator[str]:
    for place, name in _listed(card, "license"):
        if name not in HUB_LICENSES:
            yield f'"{place}" must be one of [{", ".join(HUB_LICENSES)}, array]'
    name = card.get("license_name")
    if isinstance(name, str) and name and not re.fullmatch(r"[a-z0-9-.]+", name):
        yield (
            f'"license_name" with value "{name}" fails to match the required pattern: '
            "/^[a-z0-9-.]+$/"
        )
    link = card.get("license_link", LICENSE_FILES[0])
    if not isinstance(link, str):
        yield '"license_link" must be a string'
    elif link not in LICENSE_FILES and not re.fullmatch(r"https://[^\s/]+\S*", link):
        yield '"license_link" must be a valid uri with a scheme matching the https pattern'


def _languages(card: dict[str, Any]) -> Iterator[str]:
    for place, code in _listed(card, "language"):
        if not isinstance(code, str):
            yield f'"{place}" must be {_either(place)}'
            continue
        if code != code.lower():
            yield f'"{place}" must only contain lowercase characters'
        if not is_language(code):
            yield (
                f'"{place}" with value "{code}" is not valid. It must be an ISO 639-1, 639-2 or '
                '639-3 code (two/three letters), or a special value like "code", "multilingual". '
                "If you want to use BCP-47 identifiers, you can specify them in language_bcp47."
            )


def _repo_ids(card: dict[str, Any], key: str, advice: str) -> Iterator[str]:
    for place, name in _listed(card, key):
        if not isinstance(name, str):
            yield f'"{place}" must be {_either(place)}'
        elif not _REPO_ID.fullmatch(name):
            yield f'"{place}" with value "{name}" is not valid. {advice}'


def _string(card: dict[str, Any], key: str) -> Iterator[str]:
    if key not in card:
        return
    if not isinstance(card[key], str):
        yield f'"{key}" must be a string'
    elif not card[key]:
        yield f'"{key}" is not allowed to be empty'


def _array(card: dict[str, Any], key: str) -> Iterator[str]:
    given = card.get(key, [])
    if not isinstance(given, list):
        yield f'"{key}" must be an array'
    elif key == "tags":
        for number, tag in enumerate(given):
            if not isinstance(tag, str):
                yield f'"{key}[{number}]" must be a string'


def _gate_fields(card: dict[str, Any]) -> Iterator[str]:
    """Check the form that people fill in who want access to a gated repo."""
    fields = card.get("extra_gated_fields", {})
    if not isinstance(fields, dict):
        yield '"extra_gated_fields" must be of type object'
        return
    for name, field in fields.items():
        place = f"extra_gated_fields.{name}"
        kind = field.get("type") if isinstance(field, dict) else field
        if kind == "select" and isinstance(field, dict):
            if not _options(field.get("options")):
                yield f'"{place}.options" must be an array of strings, or of {{label, value}}'
        elif kind not in FIELDS:
            yield f'"{place}" must be one of [{", ".join(FIELDS)}, object]'


def _options(given: object) -> bool:
    """Tell whether a list of choices is one."""
    return (
        isinstance(given, list)
        and bool(given)
        and all(
            isinstance(each, str) or (isinstance(each, dict) and {"label", "value"} <= set(each))
            for each in given
        )
    )


def _space(card: dict[str, Any]) -> Iterator[str]:
    rules: dict[str, Callable[[Any], bool]] = {
        "sdk": lambda value: value in SDKS,
        "colorFrom": lambda value: value in COLORS,
        "colorTo": lambda value: value in COLORS,
        "pinned": lambda value: isinstance(value, bool),
    }
    if "sdk" not in card:
        yield f'"sdk" is required: one of [{", ".join(SDKS)}]'
    for key, holds in rules.items():
        if key in card and not holds(card[key]):
            yield f'"{key}" has the invalid value {card[key]!r}'
    yield from _string(card, "short_description")
    if len(str(card.get("short_description", ""))) > 60:
        yield '"short_description" length must be less than or equal to 60 characters long'


def _listed(card: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each item of a key that takes one or a list."""
    if key not in card:
        return
    given = card[key]
    if isinstance(given, list):
        yield from ((f"{key}[{number}]", each) for number, each in enumerate(given))
    else:
        yield key, given


def _either(place: str) -> str:
    """Name the types that a place takes: inside of a list, texts only."""
    return "a string" if place.endswith("]") else "one of [string, array]"
