"""A model before it is loaded: its outline, what it will need in memory, its checked files.

Only bitsandbytes stays packed when transformers loads it; all other formats become numbers of the
dtype that models run in here, with the packed tensors beside them while that happens.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from hubq.client.client import Client
from hubq.machine.engines import missing_packages
from hubq.sources.vision import vision_family_of
from serving.messages import Model

if TYPE_CHECKING:
    from hubq.sources.shards import TensorInfo
PROCESS = 500_000_000  # bytes of Python, torch and transformers; 0.45 GB measured
LOGIT = 8  # bytes beside the logit itself: float32 and a copy while a divergence is computed
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
# Tensors that stand for weights and become numbers; what else is not a float is small.
PACKED = ("qweight", "weight_packed", "weight")
WIDTHS = {"I32": 32, "U8": 8, "I8": 8}


@dataclass(frozen=True)
class Outline:
    """What is known of a model without its weights."""

    config: Mapping[str, Any]
    tensors: Mapping[str, "TensorInfo"]

    @property
    def sees(self) -> bool:
        """Whether the model reads pictures too; UserError for one that hubq refuses."""
        return vision_family_of(self.config) is not None


@dataclass(frozen=True)
class ModelFiles:
    """Looks models up and brings them, each once: what was checked is not checked again."""

    client: Client = field(default_factory=Client)
    _outlines: dict[str, Outline] = field(default_factory=dict)
    _folders: dict[str, Path] = field(default_factory=dict)
    _locks: dict[str, Lock] = field(default_factory=dict)

    def outline(self, model: Model) -> Outline:
        """Return config.json and the headers; UserError when there is no such model."""
        with self._lock(model):
            if model.name not in self._outlines:
                self._outlines[model.name] = self._look_up(model)
            return self._outlines[model.name]

    def known_folder(self, model: Model) -> Path | None:
        """Return where the files are; None as long as they aren't here."""
        return model.folder or self._folders.get(model.name)

    def folder(self, model: Model) -> Path:
        """Return the folder of a model's files; download and check them if need be."""
        if model.folder is not None:
            return model.folder
        outline = self.outline(model)
        with self._lock(model):
            if model.name not in self._folders:
                self._folders[model.name] = self._fetch(model, outline)
            return self._folders[model.name]

    def _lock(self, model: Model) -> Lock:
        """Return what keeps two visitors from fetching the same model at once."""
        return self._locks.setdefault(model.name, Lock())

    def _look_up(self, model: Model) -> Outline:
        from hubq.machine.files import read_object
        from hubq.sources.hub import config_on_hub, headers_on_hub
        from hubq.sources.shards import index

        if model.folder is not None:
            return Outline(read_object(model.folder / "config.json"), index(model.folder))
        assert model.repo is not None, "a model is either a folder or a repo"
        revision = model.revision or "main"
        config = config_on_hub(model.repo, revision, self.client)
        return Outline(config, headers_on_hub(model.repo, revision, self.client))

    def _fetch(self, model: Model, outline: Outline) -> Path:
        """Bring a release with all that its report measured, a base without its other formats."""
        from hubq.client.pull import pull
        from hubq.records.recipe_inputs import ModelSection
        from hubq.sources.find import fetch, find

        if outline.config.get("quantization_config"):
            return pull(model.name, None, self.client)
        return fetch(find(ModelSection(hub=model.name), self.client), self.client)


def estimate_memory(
    config: Mapping[str, Any],
    tensors: Mapping[str, "TensorInfo"],
    tokens: int,
    answer: int,
    number: int,
) -> int:
    """Return the bytes that a process needs to load a model and to use it.

    At most so many tokens are read and written, and an answer of them is scored. `number` is the
    bytes of one in the dtype that the model runs in.
    """
    quantization = config.get("quantization_config") or {}
    method = str(quantization.get("quant_method", ""))
    stored = sum(info.end - info.begin for info in tensors.values())
    used = PROCESS + _working(_decoder(config, tensors), tokens, answer, number)
    if not method:
        return used + number * _count(tensors, {})
    if method == "bitsandbytes":
        return used + 2 * stored  # the file stays mapped
    dense = number * _count(tensors, quantization)
    by_us = method in ("gptq", "awq") and bool(missing_packages(method))
    return used + stored + dense * (2 if by_us else 1)


def _decoder(config: Mapping[str, Any], tensors: Mapping[str, "TensorInfo"]) -> Mapping[str, Any]:
    """Return the config of what reads text; of a model that sees it is a part."""
    if vision_family_of(config) is None:
        return config
    from hubq.sources.language_part import language_part

    return language_part(config, tensors).config


def _working(config: Mapping[str, Any], tokens: int, answer: int, number: int) -> int:
    """Return the bytes of the keys and values and of the logits."""
    heads = int(config.get("num_attention_heads") or 1)
    width = int(config.get("head_dim") or int(config.get("hidden_size") or 0) // heads)
    layers = int(config.get("num_hidden_layers") or 0)
    keys = layers * int(config.get("num_key_value_heads") or heads) * width
    logits = answer * (number + LOGIT) * int(config.get("vocab_size") or 0)
    return tokens * 2 * number * keys + logits


def _count(tensors: Mapping[str, "TensorInfo"], quantization: Mapping[str, Any]) -> int:
    """Count all weights."""
    modules = quantization.get("modules")  # of the hubq format: each with its shape
    shapes = modules if isinstance(modules, Mapping) else {}
    count: int = sum(math.prod(each["shape"]) for each in shapes.values())
    plain = {
        name: info for name, info in tensors.items() if name.partition(".weight")[0] not in shapes
    }
    return count + sum(_parameters(plain, _bits(quantization)))


def _parameters(tensors: Mapping[str, "TensorInfo"], bits: int) -> Iterator[int]:
    """Count the parameters that each tensor stands for."""
    for name, info in tensors.items():
        count = math.prod(info.shape)
        if info.dtype in FLOATS:
            yield count
        elif name.rpartition(".")[2] in PACKED and info.dtype in WIDTHS:
            # One byte of a plain `weight` is one integer, whatever its range.
            plain = name.endswith(".weight")
            yield count if plain else count * WIDTHS[info.dtype] // bits


def _bits(quantization: Mapping[str, Any]) -> int:
    """Return the bits of a packed integer, the fewest where modules differ."""
    groups = quantization.get("config_groups") or {}
    found = [(each.get("weights") or {}).get("num_bits") for each in groups.values()]
    widths = [int(each) for each in [*found, quantization.get("bits")] if each]
    return min(widths, default=4)
