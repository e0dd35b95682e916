"""The files that lie beside the weights: what makes a folder of tensors a complete repo.

All are copied from the base byte for byte, with two exceptions: config.json gains the
quantization_config, and a generation_config.json that transformers would refuse to save is mended
or left out. Only names on the lists below are copied: no weights, no pickles, no code.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hubq.errors import UserError
from hubq.json_object import read_object

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
)
CONFIGS = ("config.json", "generation_config.json")  # copied with a change where need be
CHAT_TEMPLATES = "additional_chat_templates/*.jinja"
LICENSE_FILE = re.compile(r"(licen[cs]e|notice|use_policy)[^/]*", re.IGNORECASE)
TEXT_SUFFIXES = ("", ".md", ".txt", ".pdf")

# What Meta's licences, section 1.b, ask to be kept in a text file called "Notice".
_META = "Copyright © Meta Platforms, Inc. All Rights Reserved."
NOTICES: Mapping[str, str] = {
    "llama2": "Llama 2 is licensed under the LLAMA 2 Community License, "
    "Copyright (c) Meta Platforms, Inc. All Rights Reserved.",
    "llama3": f"Meta Llama 3 is licensed under the Meta Llama 3 Community License, {_META}",
    "llama3.1": f"Llama 3.1 is licensed under the Llama 3.1 Community License, {_META}",
    "llama3.2": f"Llama 3.2 is licensed under the Llama 3.2 Community License, {_META}",
    "llama3.3": f"Llama 3.3 is licensed under the Llama 3.3 Community License, {_META}",
    "llama4": f"Llama 4 is licensed under the Llama 4 Community License, {_META}",
}


@dataclass(frozen=True)
class Companions:
    """The files beside the weights, and what a reader of the card should know about them."""

    files: dict[str, bytes]  # by path in the repo
    facts: tuple[str, ...]  # one sentence for each thing that is not as in the base


def is_companion(path: str) -> bool:
    """Tell whether a file of a repo lies beside the weights of a quantized copy too."""
    is_licence = LICENSE_FILE.fullmatch(path) and Path(path).suffix.lower() in TEXT_SUFFIXES
    known = path in (*CONFIGS, *TOKENIZER_FILES) or fnmatchcase(path, CHAT_TEMPLATES)
    return known or bool(is_licence)


def companions(
    base: Path,
    quantization_config: Mapping[str, Any],
    *,
    dtype: str,
    license: str | None,
    additions: Mapping[str, Any] = MappingProxyType({}),
) -> Companions:
    """Gather the files beside the weights of a quantized copy of the folder `base`.

    `dtype` is that of the tensors that stay unquantized, such as bfloat16; `license` is the
    base's licence id; `additions` are further keys of config.json. Raise UserError when the base
    has no usable config.json.
    """
    own = dict(additions)
    if quantization_config:  # a dense copy has none
        own["quantization_config"] = dict(quantization_config)
    config, config_fact = _config(base, own, dtype)
    others = beside_config(base, license)
    facts = (config_fact, *others.facts) if config_fact else others.facts
    return Companions(files=config | others.files, facts=facts)


def beside_config(base: Path, license: str | None) -> Companions:
    """Gather the same files but config.json; the base may be quantized itself."""
    generation, generation_fact = _generation_config(base)
    notice, notice_fact = _notice(base, license)
    copied = {path.relative_to(base).as_posix(): path.read_bytes() for path in _copied(base)}
    facts = (generation_fact, notice_fact, _agreement_fact(base, license))
    return Companions(
        files=generation | dict(sorted(copied.items())) | notice,
        facts=tuple(fact for fact in facts if fact),
    )


def _copied(base: Path) -> Iterator[Path]:
    """List what is copied byte for byte."""
    for path in (*base.glob("*"), *base.glob(CHAT_TEMPLATES)):
        name = path.relative_to(base).as_posix()
        if name not in CONFIGS and is_companion(name) and path.is_file():
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
    mistake = _generation_mistake(settings)
    if mistake is None:
        return {name: path.read_bytes()}, ""
    mended, how = _mended(settings)
    if mended is None:
        return {}, f"{name} was left out, since the base's is not valid ({mistake})."
    return {name: json_bytes(mended)}, f"{name} {how}, since the base's is not valid ({mistake})."


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


def _notice(base: Path, license: str | None) -> tuple[dict[str, bytes], str]:
    """Write the Notice that the licence asks for, unless the base has one to copy."""
    has_notice = any(path.name.lower().startswith("notice") for path in base.iterdir())
    if license is None or license not in NOTICES or has_notice:
        return {}, ""
    files = {"Notice.txt": f"{NOTICES[license]}\n".encode()}
    return files, f"Notice.txt was written, as licence {license} asks."


def _agreement_fact(base: Path, license: str | None) -> str:
    """Say where a licence that must travel along has no copy in the base to pass on."""
    has_copy = any(re.match("licen[cs]e", path.name, re.IGNORECASE) for path in base.iterdir())
    if license not in NOTICES or has_copy:
        return ""
    return f"No copy of the {license} agreement lies here, since the base has none."


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Spell a JSON file as the Hub's own tools do."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
