"""What makes the metadata of a card invalid, or suspicious, in the Hub's eyes."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from hubq.hub.cards import parse, split
from hubq.license import HUB_LICENSES

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
RELATIONS = ("adapter", "finetune", "merge", "quantized")
SDKS = ("gradio", "streamlit", "docker", "static")
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_REPO_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)


class Verdict:
    """The errors and the warnings about one card."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []


def validate(readme: str, kind: str) -> Verdict:
    """Check the YAML of a card by the rules for its kind of repo."""
    verdict = Verdict()
    front, _ = split(readme)
    if front is None or not front.strip():
        verdict.warnings.append("empty or missing yaml metadata in repo card")
        return verdict
    try:
        values = parse(front)
    except yaml.YAMLError as error:
        verdict.errors.append(f"YAML Metadata Error: {error}")
        return verdict
    if not isinstance(values, dict):
        verdict.errors.append("YAML Metadata Error: the metadata must be a mapping")
        return verdict
    verdict.errors += _errors(values, kind)
    verdict.warnings += _warnings(values)
    return verdict


def _errors(card: dict[str, Any], kind: str) -> Iterator[str]:
    yield from _license(card)
    for key in ("base_model", "datasets") if kind == "model" else ():
        yield from _repo_ids(card, key)
    for key in ("tags", "language", "datasets"):
        if key in card and not _strings(card[key]):
            yield f'"{key}" must be a string or a list of strings'
    if card.get("base_model_relation") not in (None, *RELATIONS):
        yield f'"base_model_relation" must be one of [{", ".join(RELATIONS)}]'
    for key in ("pipeline_tag", "library_name", "license_name"):
        if key in card and not isinstance(card[key], str):
            yield f'"{key}" must be a string'
    if kind == "model" and "model-index" in card:
        yield from _model_index(card["model-index"])
    if kind == "space":
        yield from _space(card)


def _warnings(card: dict[str, Any]) -> Iterator[str]:
    task = card.get("pipeline_tag")
    if isinstance(task, str) and task not in TASKS.split():
        yield f'"pipeline_tag" "{task}" is not in the official list: {", ".join(TASKS.split())}'


def _license(card: dict[str, Any]) -> Iterator[str]:
    given = card.get("license")
    for name in given if isinstance(given, list) else [given]:
        if name is not None and name not in HUB_LICENSES:
            yield f'"license" must be one of [{", ".join(HUB_LICENSES)}]'
    if given == "other" and not card.get("license_name"):
        yield '"license_name" is required when "license" is "other"'
    name = card.get("license_name")
    if isinstance(name, str) and not re.fullmatch(r"[a-z0-9-.]+", name):
        yield '"license_name" must be lower-case letters, digits, "-" and "."'


def _repo_ids(card: dict[str, Any], key: str) -> Iterator[str]:
    given = card.get(key)
    for name in given if isinstance(given, list) else [given]:
        if name is not None and not (isinstance(name, str) and _REPO_ID.fullmatch(name)):
            thing = "model" if key == "base_model" else "dataset"
            yield (
                f'"{key}" with value "{name}" is not valid. '
                f"Use a {thing} id from https://hf.co/{thing}s."
            )


def _model_index(given: object) -> Iterator[str]:
    """Let the client's own reader of evaluation results find what is missing or misplaced."""
    from huggingface_hub.repocard_data import model_index_to_eval_results

    if not isinstance(given, list):
        yield '"model-index" must be a list'
        return
    try:
        model_index_to_eval_results(given)
    except KeyError as error:
        yield f'"model-index" lacks the field "{error.args[0]}"'
    except (AttributeError, TypeError, ValueError) as error:
        yield f'"model-index" is malformed: {error}'


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


def _strings(value: object) -> bool:
    return all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))
