"""A model that sees, looked at as the plain decoder that its language part is.

Names and settings of a plain decoder are all that quantizing knows. What a whole model has besides
is held here: its config, the names in its files, and the tensors that stay as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hubq.errors import UserError
from hubq.runtime.headers import LEGACY, bare, few
from hubq.sources.architecture import FAMILIES
from hubq.sources.tensor_headers import TensorInfo
from hubq.sources.vision import VisionFamily, vision_family_of

Part = Literal["all", "language"]
Tensors = Mapping[str, TensorInfo]

BODY, HEAD = "model", "lm_head"  # of a plain decoder
# By model_type of a text_config: the model_type of the decoder that computes the same on text.
PLAIN = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
}
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# Of rope, by which a picture's tokens have three positions; those of text have one.
MROPE = ("mrope_section", "mrope_interleaved", "type")


@dataclass(frozen=True)
class Whole:
    """The model that a language part belongs to."""

    family: VisionFamily
    config: Mapping[str, Any]  # all of config.json
    body: str  # where the language part's body and head lie in the files
    head: str
    stays: Tensors  # by their names in the files: all that is not of the language part
    part: Part = "all"  # of the model, that is quantized and published
    unties: bool = False  # files hold a head that config.json says is the embeddings

    @property
    def architecture(self) -> str:
        """The whole model's, as config.json says it."""
        return str(self.config["architectures"][0])

    @property
    def corrections(self) -> dict[str, Any]:
        """Return what config.json has to say otherwise: a head in the files is the model's."""
        if not self.unties:
            return {}
        text = self.config.get("text_config")
        change = {"tie_word_embeddings": False}
        return {**change, **({"text_config": {**text, **change}} if text else {})}

    def in_files(self, name: str) -> str:
        """Return the name in files of a plain decoder's module or tensor."""
        return _moved(name, self.body, self.head)

    def in_memory(self, name: str) -> str:
        """Return the name that a plain decoder's module has in a model of transformers 5."""
        return _moved(name, self.family.body, HEAD)

    def parts(self) -> dict[str, list[TensorInfo]]:
        """Group what stays by the modules that see; what is in none of them is by itself."""
        found: dict[str, list[TensorInfo]] = {}
        for name, info in self.stays.items():
            inside = [each for each in self.family.sees if f".{each}." in f".{name}"]
            found.setdefault((inside or [bare(name)])[0], []).append(info)
        return found


class LanguagePart(NamedTuple):
    """A plain decoder's config and tensors, and the model that it is a part of, if it is one."""

    config: Mapping[str, Any]
    tensors: Tensors
    whole: Whole | None


def language_part(config: Mapping[str, Any], tensors: Tensors) -> LanguagePart:
    """Look at a model that sees as its language part; at one that reads text alone as it is.

    Raises UserError for a model of which hubq knows no such part.
    """
    family = vision_family_of(config)
    if family is None:
        return LanguagePart(config, tensors, None)
    body, head = _places(family, tensors)
    named: dict[str, TensorInfo] = {}
    stays: dict[str, TensorInfo] = {}
    for name, info in tensors.items():
        if name.endswith(LEGACY) and name.startswith(f"{body}."):
            continue
        if (plain := _plain(name, body, head, family)) is not None:
            named[plain] = info
        else:
            stays[name] = info
    whole = Whole(family, config, body, head, stays)
    own = _config(whole)
    unties = own["tie_word_embeddings"] and f"{HEAD}.weight" in named
    if unties:  # as transformers does: a tensor that is there is used
        own["tie_word_embeddings"] = False
    return LanguagePart(own, named, replace(whole, unties=unties))


def opened(folder: Path) -> LanguagePart:
    """Look at a folder of safetensors so."""
    from hubq.sources.shards import index

    return language_part(json.loads((folder / "config.json").read_bytes()), index(folder))


def _moved(name: str, body: str, head: str) -> str:
    first, _, rest = name.partition(".")
    place = {BODY: body, HEAD: head}[first]
    return f"{place}.{rest}" if rest else place


def _places(family: VisionFamily, tensors: Tensors) -> tuple[str, str]:
    """Find where the language part lies in the files."""
    bodies = [
        each
        for each in family.stored_bodies
        if any(name.startswith(f"{each}.layers.") for name in tensors)
    ]
    if not bodies:
        raise UserError(
            f"the model's files hold no blocks of a {family.title} model's language part "
            f"({' or '.join(f'{each}.layers.0' for each in family.stored_bodies)}), but "
            f"{few(sorted(tensors)) or 'nothing'}: its files are incomplete, or were saved under "
            "other names; download it again"
        )
    heads = [each for each in family.stored_heads if f"{each}.weight" in tensors]
    return bodies[0], (heads or [HEAD])[0]


def _plain(name: str, body: str, head: str, family: VisionFamily) -> str | None:
    """Return a plain decoder's name of a tensor; None for one that isn't of the language part."""
    if name.startswith(f"{head}."):
        return f"{HEAD}.{name.removeprefix(f'{head}.')}"
    rest = name.removeprefix(f"{body}.")
    if rest == name or rest.partition(".")[0] in family.sees:
        return None
    return f"{BODY}.{rest}"


def _config(whole: Whole) -> dict[str, Any]:
    """Return the config of the language part alone, with all defaults spelled out."""
    from transformers import AutoConfig

    from hubq.sources.skeleton import understanding

    _require_sections(whole.config)
    fields = {key: each for key, each in whole.config.items() if key != "quantization_config"}
    with understanding(whole.config):
        read = AutoConfig.for_model(**fields)
        said = read.get_text_config().to_dict()
    kind = said.get("model_type")
    plain = PLAIN.get(kind) if isinstance(kind, str) else None
    if plain is None:
        known = ", ".join(each.title for each in FAMILIES.values())
        raise UserError(
            f"config.json says {whole.architecture} with a text part of model_type "
            f"{str(kind)[:40]}, which hubq does not know; it knows {known}"
        )
    own = {key: each for key, each in said.items() if not key.startswith("_") and each is not None}
    rope = own.get("rope_parameters")
    if isinstance(rope, Mapping):
        kept = {key: each for key, each in rope.items() if key not in MROPE}
        own["rope_parameters"] = {**kept, "rope_type": _rope_type(rope)}
    dtype = whole.config.get("dtype") or whole.config.get("torch_dtype")
    return {
        **own,
        **({"dtype": dtype} if isinstance(dtype, str) else {}),
        "model_type": plain,
        "architectures": [ARCHITECTURES[plain]],
        "tie_word_embeddings": bool(read.tie_word_embeddings),
    }


def _rope_type(rope: Mapping[str, Any]) -> str:
    """Return the kind of rope; mrope's is the plain one where a token has one position."""
    named = str(rope.get("rope_type", rope.get("type", "default")))
    return "default" if named == "mrope" else named


def _require_sections(config: Mapping[str, Any]) -> None:
    for name in ("text_config", "vision_config"):
        if name in config and not isinstance(config[name], Mapping):
            raise UserError(
                f"config.json has a {name} that is no object ({str(config[name])[:60]}): download "
                "the file again"
            )
