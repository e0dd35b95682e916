"""What is known of a release without its weights' bytes: files, headers, small files, config.

All of it was written by strangers: a value of a type that no writer uses counts as absent, and what
can't be read at all is told by a rule (`file_rules.py`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from hubq.errors import UserError
from hubq.formats.foreign.compressed_tensors import group_of
from hubq.formats.foreign.metadata import AWQ_NAMES, BESIDE
from hubq.formats.layouts.float_scheme import WIDTHS
from hubq.machine.files import read_object
from hubq.records.run_folder import ADAPTER_CONFIG
from hubq.sources.architecture import FAMILIES, Family
from hubq.sources.base_card import front_matter
from hubq.sources.source import AUTO_ROUND
from hubq.sources.tensor_headers import TensorInfo

CONFIG = "config.json"
CARD = "README.md"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION = "generation_config.json"
# The ends of the names of tensors that a quantized module alone has.
MARKS = (
    *("qweight", "weight_packed", "weight_scale", "weight_scale_inv"),
    *("SCB", "weight.absmax"),  # bitsandbytes'
)
FLOATS = ("BF16", "F16", "F32", "F64")
HEAD = "lm_head"
Parts = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Release:
    """One release; `files` are empty where it is only planned."""

    name: str  # a folder, or org/name@commit
    repo: str | None  # org/name, where one is known
    files: Mapping[str, int]  # path -> bytes
    places: Mapping[str, Path]  # where the small ones lie on this machine
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    broken: tuple[tuple[str, str], ...] = ()  # path and what is wrong with it
    changed: Mapping[str, bytes] = field(default_factory=dict)  # what was mended

    @property
    def is_planned(self) -> bool:
        """Whether there are no files yet."""
        return not self.files

    @property
    def is_adapter(self) -> bool:
        """Whether this is an adapter, which is loaded with its base."""
        return ADAPTER_CONFIG in self.files and CONFIG not in self.files

    def content(self, path: str) -> bytes | None:
        """Return a small file; None where there is none, or it is too large to be one."""
        if path in self.changed:
            return self.changed[path]
        return self.places[path].read_bytes() if path in self.places else None

    def object(self, path: str) -> dict[str, Any]:
        """Return a file of JSON; empty where there is none; raise UserError for what is none."""
        if path in self.changed:
            found: dict[str, Any] = json.loads(self.changed[path])
            return found
        return read_object(self.places[path]) if path in self.places else {}

    def mended(self, files: Mapping[str, bytes]) -> "Release":
        """Return the release with these files in the place of its own."""
        sizes = {**self.files, **{path: len(content) for path, content in files.items()}}
        config = json.loads(files[CONFIG]) if CONFIG in files else self.config
        return replace(self, files=sizes, config=config, changed={**self.changed, **files})

    @cached_property
    def card(self) -> tuple[dict[str, Any], str]:
        """The metadata and the text of the card; raise UserError where they can't be read."""
        content = self.content(CARD)
        return front_matter(content, CARD) if content else ({}, "")

    @cached_property
    def quantization(self) -> Mapping[str, Any]:
        """What the release says of its quantization, in config.json or in a file beside it."""
        for key in ("quantization_config", "compression_config"):
            if isinstance(said := self.config.get(key), Mapping):
                return said
        for path, method in BESIDE.items():
            if (beside := readable(self, path)) is not None:
                names = AWQ_NAMES if method == "awq" else {}
                said = {names.get(key, key): each for key, each in beside.items()}
                return {"quant_method": method, **said}
        return {}

    @property
    def method(self) -> str | None:
        """The quant_method; None where the release doesn't say that it is quantized."""
        if not self.quantization:
            return None
        return str(self.quantization.get("quant_method") or "").lower()

    @property
    def layout(self) -> str | None:
        """How the tensors lie: as the method says, or as AutoRound packed them."""
        if self.method not in AUTO_ROUND:
            return self.method
        said = f"{self.quantization.get('packing_format')} {self.quantization.get('backend')}"
        return next((each for each in ("gptq", "awq") if each in said), self.method)

    def number(self, key: str) -> int | None:
        """Return a whole number of the quantization's settings."""
        found = self.quantization.get(key)
        return found if type(found) is int else None

    @property
    def architecture(self) -> str | None:
        """The class that config.json names."""
        names = self.config.get("architectures")
        first = names[0] if isinstance(names, list) and names else None
        return first if isinstance(first, str) else None

    @cached_property
    def family(self) -> Family | None:
        """The family, if hubq knows it."""
        return FAMILIES.get(self.architecture or "")

    @property
    def tied(self) -> bool:
        """Whether the head is the embeddings."""
        return bool(self.config.get("tie_word_embeddings"))

    @cached_property
    def modules(self) -> Mapping[str, Parts]:
        """The tensors of each quantized module by their names inside it."""
        listed = self.quantization.get("modules")
        found: dict[str, dict[str, TensorInfo]] = {
            name.removesuffix(f".{mark}"): {}
            for name in self.tensors
            for mark in MARKS
            if name.endswith(f".{mark}")
        }
        if self.method == "hubq" and isinstance(listed, Mapping):
            found |= {name: {} for name in listed if f"{name}.weight" in self.tensors}
        for name, info in self.tensors.items():
            module, _, part = name.rpartition(".")
            if module in found:
                found[module][part] = info
        return found

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """The linears that are there in floats."""
        known = set(self.family.linears(self.blocks)) if self.family else set()
        found = [name.removesuffix(".weight") for name in self.tensors if name.endswith(".weight")]
        return tuple(
            module
            for module in found
            if module not in self.modules
            and self.tensors[f"{module}.weight"].dtype in FLOATS
            and len(self.tensors[f"{module}.weight"].shape) == 2
            and (module in known or module.endswith("_proj") or (module == HEAD and not self.tied))
        )

    @property
    def blocks(self) -> int:
        """How many decoder blocks config.json speaks of, as far as the files can hold them."""
        found = self.config.get("num_hidden_layers")
        return found if type(found) is int and 0 < found <= len(self.tensors) else 0

    def weights_of(self, module: str) -> Mapping[str, Any]:
        """Return compressed-tensors' settings of a module's weights; UserError for no such."""
        if not isinstance(self.quantization.get("config_groups"), Mapping):
            return {}  # another rule tells
        found = group_of(module, self.quantization).get("weights")
        return found if isinstance(found, Mapping) else {}

    def groups(self) -> Iterator[Mapping[str, Any]]:
        """Yield compressed-tensors' config groups."""
        found = self.quantization.get("config_groups")
        for each in found.values() if isinstance(found, Mapping) else ():
            if isinstance(each, Mapping):
                yield each

    def inputs(self, module: str) -> int | None:
        """Return how many inputs a module has by config.json; None where that isn't plain."""
        last = module.rpartition(".")[2]
        key = "intermediate_size" if last == "down_proj" else "hidden_size"
        found = self.config.get(key) if last != "o_proj" else None
        return found if type(found) is int and found > 0 else None

    def named(self, *suffixes: str) -> list[str]:
        """List the files with these endings."""
        return sorted(path for path in self.files if PurePosixPath(path).suffix in suffixes)


def readable(release: Release, path: str) -> dict[str, Any] | None:
    """Return a file of JSON; None where it isn't there or is none, which another rule tells."""
    try:
        return release.object(path) or None
    except UserError:
        return None


def integer_bits(arguments: object) -> int | None:
    """Return the bits of integers; None for floats and for what is left alone."""
    said = arguments if isinstance(arguments, Mapping) else {}
    bits = said.get("num_bits")
    return bits if type(bits) is int and said.get("type", "int") == "int" else None


def float_kind(arguments: object) -> str | None:
    """Name the floats that engines have kernels for: fp8, nvfp4 or mxfp4; None for all else."""
    said = arguments if isinstance(arguments, Mapping) else {}
    bits, size = said.get("num_bits"), said.get("group_size")
    if said.get("type") != "float" or type(bits) is not int:
        return None
    widths = {(4, width): kind for kind, width in WIDTHS.items()}
    return "fp8" if bits == 8 and not size else widths.get((bits, size))  # type: ignore[arg-type]
