"""What a folder says of its quantization, in config.json or in a file beside it.

AutoRound writes the layouts of gptq and awq and says so in `packing_format` (once `backend`): it is
read as what it is. Settings are checked for their types here, once for all readers.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.formats.foreign import awq, gptq
from hubq.machine.files import read_object
from hubq.sources.source import AUTO_ROUND, READ

# Where older tools wrote the quantization, and how they called awq's options.
BESIDE = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
AWQ_NAMES = {"w_bit": "bits", "q_group_size": "group_size"}
COMPARED = ("bits", "group_size", "sym", "desc_act", "checkpoint_format", "zero_point", "version")
NOT_KEPT = ("kv_cache_scheme", "transform_config", "sparsity_config")

# What a setting has to be, where it is there at all.
TYPES: Mapping[str, tuple[type, ...]] = {
    "bits": (int,),
    "group_size": (int,),
    "sym": (bool,),
    "desc_act": (bool,),
    "version": (str, int),
    "checkpoint_format": (str,),
    "format": (str,),
    "packing_format": (str,),
    "backend": (str,),
    "dynamic": (dict,),
    "extra_config": (dict,),
    "config_groups": (dict,),
    "weight_block_size": (list, tuple),
}


def quantization_of(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quantization_config of a folder; raise UserError where there is no usable one."""
    said = config.get("quantization_config") or config.get("compression_config")
    if said is not None and not isinstance(said, dict):
        raise UserError(f"{folder / 'config.json'} has a quantization_config that is not an object")
    beside = _beside(folder)
    if said is None and beside is None:
        raise UserError(
            f"{folder} is not quantized: config.json has no quantization_config, and there is "
            "neither quantize_config.json nor quant_config.json.\n"
            "To quantize a 16-bit model write a recipe and run: hubq quantize RECIPE"
        )
    if said is not None and beside is not None:
        require_agreement(folder, said, *beside)
    found = {**(beside[1] if beside else {}), **(said or {})}
    method = str(found.setdefault("quant_method", beside[0] if beside else "")).lower()
    found["quant_method"] = method
    require_types(folder, found)
    if method in AUTO_ROUND:
        found = _by_auto_round(folder, found)
    _require_known(folder, found)
    return found


def require_types(where: Path | str, found: Mapping[str, Any]) -> None:
    """Refuse settings of another type than all that write them use."""
    for key, types in TYPES.items():
        value = found.get(key)
        # True is an int to Python, and no number of bits.
        if value is not None and (type(value) not in types):
            raise UserError(
                f"{where} says {key}: {json.dumps(value)[:80]} in its quantization_config, where "
                f"{' or '.join(each.__name__ for each in types)} belongs: correct it, or fetch the "
                "model again"
            )


def _by_auto_round(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Say in gptq's or awq's words what AutoRound says in its own."""
    packing = str(found.get("packing_format") or found.get("backend") or "")
    settings = {key: found[key] for key in ("bits", "group_size", "sym") if key in found}
    single = found.get("extra_config") or {}
    if not all(isinstance(each, dict) for each in single.values()):
        raise UserError(
            f"{folder} has an extra_config that does not give settings to each module: correct it "
            "in config.json, or fetch the model again"
        )
    if "gptq" in packing:
        # Names of modules, or patterns: gptqmodel's `dynamic` takes patterns.
        dynamic = {f"{re.escape(name)}$": each for name, each in single.items()}
        dynamic |= {name: each for name, each in single.items() if re.search(r"[*+\\\[(|^$]", name)}
        return {"quant_method": "gptq", "checkpoint_format": "gptq", **settings, "dynamic": dynamic}
    if "awq" in packing and all(each.get("bits", 4) in (4, 16, 32) for each in single.values()):
        return {"quant_method": "awq", "version": "gemm", **settings}
    raise UserError(
        f"{folder} was packed by AutoRound as {packing or 'a packing that it does not name'}; "
        "hubq reads its auto_round:auto_gptq and, with 4 bits in all modules, "
        "auto_round:auto_awq. Look for the same model in one of these"
    )


def _beside(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """Return the method and the settings of a file beside config.json."""
    for name, method in BESIDE.items():
        if (folder / name).is_file():
            said = read_object(folder / name)
            named = AWQ_NAMES if method == "awq" else {}
            return method, {named.get(key, key): value for key, value in said.items()}
    return None


def require_agreement(
    where: Path | str, said: Mapping[str, Any], method: str, beside: Mapping[str, Any]
) -> None:
    """Refuse two files that describe different tensors."""
    name = next(each for each, made_by in BESIDE.items() if made_by == method)
    both = [key for key in COMPARED if key in said and key in beside]
    for key in both:
        if _plain(said[key]) != _plain(beside[key]):
            raise UserError(
                f"{where}: config.json says {key}: {json.dumps(said[key])}, but {name} says "
                f"{json.dumps(beside[key])}.\n"
                f"Remove {name} if config.json is right, or correct it"
            )


def _plain(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _require_known(folder: Path, found: Mapping[str, Any]) -> None:
    """Refuse methods, and settings of a method, that hubq does not read."""
    method = found["quant_method"]
    if method not in READ:
        raise UserError(
            f"{folder} is quantized by {method or 'an unnamed method'}; hubq converts "
            f"{', '.join(READ[: 1 - len(AUTO_ROUND)])}. Look for the same model in one of "
            "these formats"
        )
    kept = [key for key in NOT_KEPT if _is_filled(found.get(key))]
    if kept:
        raise UserError(
            f"{folder} has a {kept[0]} in its quantization_config, which changes what the model "
            "computes and which hubq does not convert; look for a version of the model without it"
        )
    if method == "gptq":
        gptq.settings_of(found)
    if method == "awq":
        awq.group_size_of(found)


def _is_filled(value: object) -> bool:
    """Tell whether a section says something: writers leave empty ones, and say of dense weights
    how many of them happen to be zero.
    """
    if isinstance(value, Mapping):
        return value.get("format") != "dense" and any(map(_is_filled, value.values()))
    return bool(value)
