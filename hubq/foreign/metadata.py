"""What a folder says of its quantization, in config.json or in a file beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.foreign import awq, gptq
from hubq.json_object import read_object

# Where older tools wrote the quantization, and how they called awq's options.
BESIDE = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
AWQ_NAMES = {"w_bit": "bits", "q_group_size": "group_size"}
READ = ("awq", "compressed-tensors", "gptq", "hubq")
COMPARED = ("bits", "group_size", "sym", "desc_act", "checkpoint_format", "zero_point", "version")
NOT_KEPT = ("kv_cache_scheme", "transform_config", "sparsity_config")


def quantization_of(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quantization_config of a folder; raise UserError where there is no usable one."""
    said = config.get("quantization_config") or config.get("compression_config")
    if said is not None and not isinstance(said, dict):
        raise UserError(f"{folder / 'config.json'} has a quantization_config that is no object")
    beside = _beside(folder)
    if said is None and beside is None:
        raise UserError(
            f"{folder} is not quantized: config.json has no quantization_config, and there is "
            "neither quantize_config.json nor quant_config.json.\n"
            "To quantize a 16-bit model write a recipe and run: hubq quantize RECIPE"
        )
    if said is not None and beside is not None:
        _require_agreement(folder, said, *beside)
    found = {**(beside[1] if beside else {}), **(said or {})}
    method = str(found.setdefault("quant_method", beside[0] if beside else "")).lower()
    found["quant_method"] = method
    _require_known(folder, found)
    return found


def _beside(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """Return the method and the settings of a file beside config.json."""
    for name, method in BESIDE.items():
        if (folder / name).is_file():
            said = read_object(folder / name)
            named = AWQ_NAMES if method == "awq" else {}
            return method, {named.get(key, key): value for key, value in said.items()}
    return None


def _require_agreement(
    folder: Path, said: Mapping[str, Any], method: str, beside: Mapping[str, Any]
) -> None:
    """Refuse two files that describe different tensors."""
    name = next(each for each, made_by in BESIDE.items() if made_by == method)
    both = [key for key in COMPARED if key in said and key in beside]
    for key in both:
        if _plain(said[key]) != _plain(beside[key]):
            raise UserError(
                f"{folder}: config.json says {key}: {json.dumps(said[key])}, and {name} "
                f"{json.dumps(beside[key])}.\nRemove {name} if config.json is right, or correct it"
            )


def _plain(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _require_known(folder: Path, found: Mapping[str, Any]) -> None:
    """Refuse methods, and settings of a method, that hubq does not read."""
    method = found["quant_method"]
    if method not in READ:
        raise UserError(
            f"{folder} is quantized by {method or 'an unnamed method'}; hubq converts "
            f"{', '.join(READ)}. Look for the same model in one of these formats"
        )
    kept = [key for key in NOT_KEPT if found.get(key)]
    if kept and _is_filled(found[kept[0]]):
        raise UserError(
            f"{folder} has a {kept[0]} in its quantization_config, which changes what the model "
            "computes and which hubq does not convert"
        )
    if method == "gptq":
        gptq.settings_of(found)
    if method == "awq":
        awq.group_size_of(found)


def _is_filled(value: object) -> bool:
    """Tell whether a section says something: writers leave empty ones, and formats of "dense"."""
    if isinstance(value, Mapping):
        return any(_is_filled(each) for each in value.values() if each != "dense")
    return bool(value)
