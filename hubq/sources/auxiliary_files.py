"""The files that lie beside the weights: what makes a folder of tensors a complete repo.

All are copied from the base byte for byte, with two exceptions: config.json gains the
quantization_config, and a generation_config.json that transformers would refuse to save is mended
or left out. Only names on the lists below are copied: no weights, no pickles, no code. Beside the
copies lie the few files that the base's license asks for (hubq/sources/license_terms.py).

Among them are what says how the model wants to be asked: its chat template and its settings for
sampling, read from the written folder for the card, and compared with the base's file by file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

from hubq.errors import UserError
from hubq.machine.files import read_object, sha256_of
from hubq.records.checkpoint import Prompting
from hubq.sources.chat_template import ChatTemplateError, laid_out, template_of
from hubq.sources.license_terms import is_license_file, license_files
from hubq.sources.tokenizer import tokenizer_of

QUESTION = "What is a llama?"
DATE = "26 Jul 2024"  # what templates that tell the date show, so that it is the same on every day
SAMPLING = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_new_tokens",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
CONFIGS = ("config.json", "generation_config.json")  # copied with a change where need be
CHAT_TEMPLATES = "additional_chat_templates/*.jinja"
# transformers finds its names when they are asked for, which several threads can't do at once.
_IMPORTING = Lock()


def prompting(folder: Path, base: Path) -> Prompting:
    """Read a written folder, and compare its tokenizer's files with those of its base."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in (*map(folder.joinpath, TOKENIZER_FILES), *folder.glob(CHAT_TEMPLATES))
        if path.is_file()
    )
    same = [name for name in names if _is_same(folder / name, base / name)]
    template, example = _template(folder)
    return Prompting(
        template=None if template is None else sha256(template.encode()).hexdigest(),
        example=example,
        sampling=_sampling(folder),
        same=tuple(same),
        changed=tuple(name for name in names if name not in same),
    )


def _is_same(path: Path, other: Path) -> bool:
    return other.is_file() and sha256_of(path) == sha256_of(other)


def _template(folder: Path) -> tuple[str | None, str | None]:
    """Return the text of the chat template and what it makes of one question."""
    try:
        tokenizer = tokenizer_of(folder)
        template = template_of(tokenizer)
    except UserError:
        return None, None  # evaluate stops at a model without a tokenizer that works
    if template is None:
        return None, None
    question = {"role": "user", "content": QUESTION}
    try:
        return template, laid_out(tokenizer, [question], variables={"date_string": DATE})
    except ChatTemplateError:
        return template, None  # a template that wants more than a question


def _sampling(folder: Path) -> dict[str, Any]:
    """Pick from generation_config.json what bears on how answers are drawn."""
    path = folder / "generation_config.json"
    settings = json.loads(path.read_bytes()) if path.is_file() else {}
    return {key: settings[key] for key in SAMPLING if settings.get(key) is not None}


@dataclass(frozen=True)
class AuxiliaryFiles:
    """The files beside the weights, and what a reader of the card should know about them."""

    files: dict[str, bytes]  # by path in the repo
    facts: tuple[str, ...]  # one sentence for each thing that is not as in the base


def is_auxiliary(path: str) -> bool:
    """Tell whether a file of a repo lies beside the weights of a quantized copy too."""
    return path in CONFIGS or is_tokenizer(path) or is_license_file(path)


def is_tokenizer(path: str) -> bool:
    """Tell whether a file of a repo is of its tokenizer or its chat template."""
    return path in TOKENIZER_FILES or fnmatchcase(path, CHAT_TEMPLATES)


def auxiliary_files(
    base: Path,
    quantization_config: Mapping[str, Any],
    *,
    dtype: str,
    license: str | None,
    additions: Mapping[str, Any] = MappingProxyType({}),
) -> AuxiliaryFiles:
    """Gather the files beside the weights of a quantized copy of the folder `base`.

    `dtype` is that of the tensors that stay unquantized, such as bfloat16; `license` is the
    id of the license whose duties are to be done; `additions` are further keys of config.json.
    Raise UserError when the base has no usable config.json.
    """
    own = dict(additions)
    if quantization_config:  # a dense copy has none
        own["quantization_config"] = dict(quantization_config)
    config, config_fact = _config(base, own, dtype)
    others = beside_config(base, license)
    facts = (config_fact, *others.facts) if config_fact else others.facts
    return AuxiliaryFiles(files=config | others.files, facts=facts)


def beside_config(base: Path, license: str | None) -> AuxiliaryFiles:
    """Gather the same files but config.json; the base may be quantized itself."""
    generation, generation_fact = _generation_config(base)
    changes = [generation_fact] if generation_fact else []
    legal = license_files(base, license, changes)
    copied = {path.relative_to(base).as_posix(): path.read_bytes() for path in _copied(base)}
    return AuxiliaryFiles(
        files=generation | dict(sorted(copied.items())) | legal.files,
        facts=(*changes, *legal.facts),
    )


def _copied(base: Path) -> Iterator[Path]:
    """List what is copied byte for byte."""
    for path in (*base.glob("*"), *base.glob(CHAT_TEMPLATES)):
        name = path.relative_to(base).as_posix()
        if name not in CONFIGS and is_auxiliary(name) and path.is_file():
            yield path


def _config(base: Path, additions: Mapping[str, Any], dtype: str) -> tuple[dict[str, bytes], str]:
    """Return the base's config.json with the quantization in it, and a fact about it."""
    config = read_object(base / "config.json")
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "an unnamed method")
        raise UserError(
            f"{base / 'config.json'} says that the model is already quantized ({method}); "
            "start from the unquantized base"
        )
    # Readers guess a dtype that is not named; beside int32 words and scales they guess wrong.
    key = "dtype" if "dtype" in config else "torch_dtype"
    code = config.pop("auto_map", None)
    changed = {**config, key: dtype, **additions}
    fact = "The base's auto_map was left out of config.json, as its code was." if code else ""
    return {"config.json": json_bytes(changed)}, fact


def _generation_config(base: Path) -> tuple[dict[str, bytes], str]:
    """Return the base's generation_config.json, mended if need be, and a fact about it."""
    name = "generation_config.json"
    path = base / name
    if not path.is_file():
        return {}, ""
    settings = read_object(path)
    found = mended_generation(settings)
    if found is None:
        return {name: path.read_bytes()}, ""
    mended, how, mistake = found
    if mended is None:
        return {}, f"{name} was left out, since the base's is not valid ({mistake})."
    return {name: json_bytes(mended)}, f"{name} {how}, since the base's is not valid ({mistake})."


def mended_generation(settings: dict[str, Any]) -> tuple[dict[str, Any] | None, str, str] | None:
    """Mend settings that transformers would refuse to save; None for those that it would not.

    Returns them, or None where nothing helps; what was done; and what was wrong.
    """
    mistake = _generation_mistake(settings)
    return None if mistake is None else (*_mended(settings), mistake)


def _mended(settings: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return settings that transformers would save, and what was done to them."""
    # Who sets a temperature means to sample; engines such as vLLM do so whatever do_sample says.
    sampling = {**settings, "do_sample": True}
    if _generation_mistake(sampling) is None:
        return sampling, "has do_sample set to true"
    kept = dict(settings)
    while mistake := _generation_mistake(kept):
        blamed = [key for key in re.findall(r"`(\w+)`", mistake) if key in kept]
        if not blamed:
            return None, ""
        del kept[blamed[0]]
    return kept, f"lacks {', '.join(key for key in settings if key not in kept)}"


def _generation_mistake(settings: dict[str, Any]) -> str | None:
    """Say why transformers would refuse to save these settings, or None."""
    with _IMPORTING:
        from transformers import GenerationConfig

    try:
        GenerationConfig.from_dict(settings).validate(strict=True)
    except (ValueError, TypeError) as error:
        return _first_complaint(str(error))
    return None


def _first_complaint(message: str) -> str:
    """Cut transformers' long message down to the first thing it complains about."""
    items = [line.removeprefix("- ") for line in message.splitlines() if line.startswith("- ")]
    return (items or message.splitlines() or ["no reason given"])[0].rstrip(".")


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Spell a JSON file as the Hub's own tools do."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
