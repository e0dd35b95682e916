"""An adapter as peft stores it: two thin matrices a linear, and what says how to add them.

hubq writes and reads these files by itself. What others wrote is checked before it is believed: an
option that hubq doesn't know may change the model, and then what was measured is another model.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hubq.errors import UserError
from hubq.machine.files import read_object, write_atomically
from hubq.methods.adapters.branches.correction import Correction
from hubq.runtime.modules import Packed
from hubq.sources.shards import Weights
from hubq.sources.shards import write as write_tensors
from hubq.sources.source import BY_HEADER
from hubq.sources.tensor_headers import read_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BODY = "base_model.model."  # begins the names of peft's tensors
A, B = ".lora_A.weight", ".lora_B.weight"  # end them
# What peft 0.17 writes, and later versions read, of a plain LoRA.
PLAIN: Mapping[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_bias": False,
    "lora_dropout": 0.0,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "qalora_group_size": 16,
    "rank_pattern": {},
    "revision": None,
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}
# Of these, and of what tells nothing but how it was trained or which modules were chosen, any value
# leaves the sum of base and matrices as it is.
HARMLESS = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "peft_version"),
        *("inference_mode", "lora_dropout", "corda_config", "eva_config", "loftq_config"),
        *("exclude_modules", "layers_pattern", "layers_to_transform", "rank_pattern"),
        *("megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying"),
        *("r", "lora_alpha", "use_rslora", "target_modules", "init_lora_weights"),  # looked at
    }
)
BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")  # that leave the base as it is
EMPTY: tuple[object, ...] = (None, False, [], {}, "")


def write(  # noqa: PLR0913 - all that the two files say
    folder: Path,
    corrections: Mapping[str, Correction],
    alpha: float,
    rank: int,
    base: str | None,
    dtype: torch.dtype,
) -> None:
    """Write both files: each linear's weight is then W + (alpha / rank) b a.

    A correction of a lower rank is filled up with zeros. `base` is a Hub id, or None where it isn't
    known yet; see `renamed`. Equal corrections give equal bytes.
    """
    assert base is None or not base.startswith((".", "/", "~")), (
        "a local path must not be published"
    )
    tensors: dict[str, Tensor] = {}
    for name in sorted(corrections):
        a, b, _ = corrections[name]
        missing = rank - len(a)
        tensors[f"{BODY}{name}{A}"] = nn.functional.pad(a, (0, 0, 0, missing)).to(dtype)
        tensors[f"{BODY}{name}{B}"] = nn.functional.pad(b, (0, missing)).to(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    config = {
        **PLAIN,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "target_modules": _targets(corrections),
    }
    write_atomically(folder / CONFIG, _spelled(config))


def renamed(config: bytes, base: str, revision: str | None) -> bytes:
    """Return an adapter_config.json that names its base on the Hub, at a commit if one is known."""
    said = {**json.loads(config), "base_model_name_or_path": base, "revision": revision}
    return _spelled(said)


def _spelled(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _targets(names: Mapping[str, Correction]) -> list[str]:
    """Name the linears by their last parts where every block has the same, else in full."""
    blocks: dict[str, set[str]] = {}
    for name in names:
        block, _, inside = name.partition(".self_attn.")
        if not inside:
            block, _, inside = name.partition(".mlp.")
        blocks.setdefault(block, set()).add(inside)
    numbers = {block.rpartition(".")[2] for block in blocks}
    every = {str(number) for number in range(len(blocks))} == numbers
    if every and len({frozenset(each) for each in blocks.values()}) == 1 and all(blocks.values()):
        return sorted(next(iter(blocks.values())))
    return sorted(names)


class Matrices(NamedTuple):
    """What a file adds to a linear."""

    a: Tensor  # (rank, in)
    b: Tensor  # (out, rank)
    scaling: float


def attach(model: Any, folder: Path) -> None:  # noqa: ANN401 - a model of transformers
    """Add an adapter to a model, however it was loaded: what stays packed, or on the disk, too.

    The matrices are multiplied in float32, as peft does. Raises UserError for files that don't fit
    the model or together, and for options by which the adapter would be more than matrices.
    """
    modules = dict(model.named_modules())
    inside = next(name for name, each in modules.items() if each is model.get_decoder().layers)
    found = read(folder)
    for name, matrices in found.items():
        if name not in modules or not name.startswith(f"{inside}."):
            raise UserError(
                f"{folder} adapts {name}, and the model has no such linear in its blocks: "
                "it is an adapter of another model"
            )
        shape, wanted = _shape(modules[name]), (matrices.b.shape[0], matrices.a.shape[1])
        if shape != wanted:
            raise UserError(
                f"{folder} adapts {name} as if it were {wanted[0]} x {wanted[1]}, and it is "
                f"{shape or 'no linear'}: it is an adapter of another model"
            )
    for name, matrices in found.items():
        modules[name].register_forward_hook(_Added(matrices))


class _Added:
    """A hook that adds what the matrices make of a linear's inputs to its outputs.

    Tensors of a hook are none of the module's, so that whoever fills and empties a block, or counts
    what it holds, finds it as it was.
    """

    def __init__(self, matrices: Matrices) -> None:
        self.matrices = matrices

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        (given,) = inputs
        a, b, scaling = self.matrices
        if a.device != given.device:
            a, b = a.to(given.device), b.to(given.device)
            self.matrices = Matrices(a, b, scaling)
        added = linear(linear(given.to(a.dtype), a), b) * scaling
        return (outputs + added).to(outputs.dtype)


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """Return the (out, in) of a linear of any library, or None for another module."""
    if isinstance(module, Packed):
        return module.shape
    out, columns = getattr(module, "out_features", None), getattr(module, "in_features", None)
    return (out, columns) if isinstance(out, int) and isinstance(columns, int) else None


def read(folder: Path) -> dict[str, Matrices]:
    """Read an adapter that anyone wrote, in float32, by the names of its modules."""
    config = read_object(folder / CONFIG)
    _require_plain(folder, config)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has no {WEIGHTS}: hubq reads adapters in safetensors only")
    weights = Weights(folder, read_header(folder / WEIGHTS))
    return {
        name: Matrices(a, b, _scaling(folder, config, len(a)))
        for name, a, b in _pairs(folder, config, weights)
    }


def _pairs(
    folder: Path, config: Mapping[str, Any], weights: Weights
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield each module's matrices, once their headers fit together and are targeted."""
    names = [name.removeprefix(BODY) for name in weights.info if name.startswith(BODY)]
    modules = sorted({name.removesuffix(A).removesuffix(B) for name in names})
    expected = {f"{BODY}{module}{end}" for module in modules for end in (A, B)}
    if not modules or expected != set(weights.info):
        odd = sorted(expected ^ set(weights.info))
        raise UserError(
            f"{folder / WEIGHTS} is no plain LoRA: {str(odd[:1] or 'it is empty')[:200]} is "
            "missing or has no counterpart, or is of another kind of adapter"
        )
    for module in modules:
        infos = [weights.info[f"{BODY}{module}{end}"] for end in (A, B)]
        a, b = (each.shape for each in infos)
        floats = all(each.dtype in BY_HEADER for each in infos)
        if not floats or len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
            raise UserError(
                f"{folder / WEIGHTS} has matrices {a} and {b} of {infos[0].dtype} for {module}, "
                "which are none of a LoRA: fetch the adapter again"
            )
        if a[0] != config["r"] and not config.get("rank_pattern"):
            raise UserError(
                f"{folder / WEIGHTS} has rank {a[0]} for {module}, and {CONFIG} says r: "
                f"{config['r']}: one of them is of another adapter"
            )
        _require_targeted(folder, config.get("target_modules"), module)
        matrices = [weights.read(f"{BODY}{module}{end}").float() for end in (A, B)]
        if not all(each.isfinite().all() for each in matrices):
            raise UserError(f"{folder / WEIGHTS} holds NaN or inf for {module}: fetch it again")
        yield module, matrices[0], matrices[1]


def _require_targeted(folder: Path, targets: object, module: str) -> None:
    """Refuse matrices that peft would leave out, as its config doesn't name their module."""
    if targets == "all-linear":
        return
    if not isinstance(targets, list) or not all(isinstance(each, str) for each in targets):
        raise UserError(
            f"{folder / CONFIG} names no list of target_modules, nor all-linear, and hubq reads "
            "no patterns: name the modules one by one"
        )
    if not any(module == each or module.endswith(f".{each}") for each in targets):
        raise UserError(
            f"{folder / WEIGHTS} has matrices for {module}, which is none of the target_modules "
            f"in {CONFIG}: peft would leave them out"
        )


def _require_plain(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse what is more, or other, than a pair of matrices for each linear."""
    if config.get("peft_type") != "LORA":
        raise UserError(
            f"{folder / CONFIG} says peft_type: {str(config.get('peft_type'))[:40]}; hubq knows "
            "LORA alone"
        )
    odd = sorted(
        key
        for key, value in config.items()
        if key not in HARMLESS and value != PLAIN.get(key) and value not in EMPTY
    )
    if config.get("init_lora_weights", True) not in BEGINNINGS:
        odd.append("init_lora_weights")
    if odd:
        raise UserError(
            f"{folder / CONFIG} has {odd[0]}: {str(config[odd[0]])[:60]}, which hubq does not "
            "know: what it changes would be lost. Merge the adapter into its base with peft "
            "(merge_and_unload), and use that"
        )
    if type(config.get("r")) is not int or config["r"] < 1:
        raise UserError(f"{folder / CONFIG} has no rank r of at least 1: fetch the adapter again")


def _scaling(folder: Path, config: Mapping[str, Any], rank: int) -> float:
    """Return what the product of both matrices is multiplied by."""
    alpha = config.get("lora_alpha")
    if type(alpha) not in (int, float) or not math.isfinite(alpha):  # type: ignore[arg-type]
        raise UserError(f"{folder / CONFIG} has no number lora_alpha: fetch the adapter again")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)  # type: ignore[arg-type]
