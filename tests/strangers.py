"""Quantized folders as other tools write them, made without any code of hubq."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output, of eight, in each nibble of a word
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Drawn:
    """The numbers of one linear, drawn at random, and what they stand for."""

    codes: np.ndarray[Any, Any]  # (out, in)
    zeros: np.ndarray[Any, Any]  # (out, groups)
    scales: Tensor  # (out, groups), exact in bfloat16 and float16
    groups: np.ndarray[Any, Any]  # (in,): the group of each column
    bits: int

    def weight(self) -> Tensor:
        """Compute (code - zero) * scale, in float64."""
        difference = self.codes.astype(np.int64) - self.zeros[:, self.groups]
        return torch.from_numpy(difference).double() * self.scales.double()[:, self.groups]


@dataclass(frozen=True)
class Drawing:
    """What to draw for every linear of a model."""

    bits: int = 4
    group_size: int = 32
    symmetric: bool = False
    ordered: bool = True  # False: GPTQ's activation order has scattered the groups
    least_zero: int = 1

    def of(self, shape: tuple[int, ...], seed: int) -> Drawn:
        """Draw one linear."""
        (out, columns), generator = shape, np.random.default_rng(seed)
        count, top = columns // self.group_size, 1 << self.bits
        zeros = generator.integers(self.least_zero, top, (out, count))
        groups = np.arange(columns) // self.group_size
        return Drawn(
            codes=generator.integers(0, top, (out, columns)),
            zeros=np.full_like(zeros, top // 2) if self.symmetric else zeros,
            scales=torch.from_numpy(generator.uniform(2**-9, 2**-6, (out, count))).bfloat16(),
            groups=groups if self.ordered else generator.permutation(groups),
            bits=self.bits,
        )


def words(codes: np.ndarray[Any, Any], bits: int) -> Tensor:  # (rows, count) -> (rows, words)
    """Lay the bits of each row's codes end to end, the lowest first."""
    single = (codes[..., None] >> np.arange(bits)) & 1
    flat = single.reshape(len(codes), -1).astype(np.uint8)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 32)))
    return torch.from_numpy(np.packbits(padded, axis=1, bitorder="little").view("<i4").copy())


def gptq(drawn: Drawn, version: str = "gptq") -> Parts:
    """Pack down the columns; version 1 stores each zero less one."""
    offset = 1 if version == "gptq" else 0
    stored = (drawn.zeros - offset) % (1 << drawn.bits)
    return {
        "qweight": words(drawn.codes, drawn.bits).T.contiguous(),
        "qzeros": words(stored.T, drawn.bits),
        "scales": drawn.scales.T.half().contiguous(),
        "g_idx": torch.from_numpy(drawn.groups.astype(np.int32)),
    }


def awq(drawn: Drawn) -> Parts:
    """Pack along the outputs, eight to a word in the order of AWQ's kernel."""

    def packed(codes: np.ndarray[Any, Any]) -> Tensor:  # (rows, out)
        eights = codes.reshape(len(codes), -1, 8)[..., list(AWQ_ORDER)]
        return words(eights.reshape(len(codes), -1), 4)

    return {
        "qweight": packed(drawn.codes.T),
        "qzeros": packed(drawn.zeros.T),
        "scales": drawn.scales.T.half().contiguous(),
    }


def gptq_config(drawing: Drawing, **changes: object) -> dict[str, Any]:
    """Return what AutoGPTQ's successors write into config.json."""
    config = {
        "quant_method": "gptq",
        "bits": drawing.bits,
        "group_size": drawing.group_size,
        "sym": drawing.symmetric,
        "desc_act": not drawing.ordered,
        "checkpoint_format": "gptq",
    }
    return {key: value for key, value in {**config, **changes}.items() if value is not None}


def awq_config(drawing: Drawing) -> dict[str, Any]:
    """Return what AutoAWQ writes into config.json."""
    return {
        "quant_method": "awq",
        "bits": 4,
        "group_size": drawing.group_size,
        "modules_to_not_convert": None,
        "version": "gemm",
        "zero_point": True,
    }


@dataclass(frozen=True)
class Stranger:
    """A folder of somebody's, and the numbers that are in it."""

    folder: Path
    drawn: dict[str, Drawn]  # by module

    def edit_config(self, **changes: object) -> None:
        """Change the quantization_config; None takes a key out."""
        path = self.folder / "config.json"
        config = json.loads(path.read_text())
        said = {**config["quantization_config"], **changes}
        config["quantization_config"] = {k: v for k, v in said.items() if v is not None}
        path.write_text(json.dumps(config))

    def edit_tensors(self, edit: Callable[[Parts], None]) -> None:
        """Change the tensors of the file."""
        tensors = load_file(self.folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, self.folder / "model.safetensors", {"format": "pt"})

    def dense(self, folder: Path) -> Path:
        """Write the model that the numbers stand for, in bfloat16, as another folder."""
        shutil.copytree(self.folder, folder)
        tensors = load_file(self.folder / "model.safetensors")
        kept = {
            name: tensor
            for name, tensor in tensors.items()
            if name.rpartition(".")[0] not in self.drawn or name.endswith(".bias")
        }
        made = {f"{name}.weight": each.weight().bfloat16() for name, each in self.drawn.items()}
        save_file(kept | made, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        del config["quantization_config"]
        (folder / "config.json").write_text(json.dumps(config))
        return folder


def write(
    base: Path,
    folder: Path,
    drawing: Drawing,
    pack: Callable[[Drawn], Parts],
    config: dict[str, Any],
) -> Stranger:
    """Put drawn numbers in the place of all linears of a 16-bit model."""
    shutil.copytree(base, folder)
    tensors = load_file(base / "model.safetensors")
    drawn, written = {}, {}
    for number, (name, weight) in enumerate(sorted(tensors.items())):
        module = name.removesuffix(".weight")
        if not module.endswith(LINEARS) or weight.ndim != 2:
            written[name] = weight
            continue
        drawn[module] = drawing.of(tuple(weight.shape), number)
        written |= {f"{module}.{part}": each for part, each in pack(drawn[module]).items()}
    save_file(written, folder / "model.safetensors", {"format": "pt"})
    said = json.loads((base / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "quantization_config": config}))
    return Stranger(folder, drawn)
