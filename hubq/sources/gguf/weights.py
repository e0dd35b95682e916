"""Each tensor of a GGUF file has its place in the model, and arrives there.

Names and rows are mapped here by the gguf library's tables, apart from transformers' reader: so
the two can be compared, tensor by tensor, and a mistake of one isn't that of both.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hubq.errors import UserError
from hubq.sources.gguf.config import FACTORS, WAY_OUT
from hubq.sources.gguf.files import Gguf
from hubq.sources.gguf.header import GgufTensor
from hubq.sources.shards import Weights

PERMUTED = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}
ROWS = 4096  # dequantized at a time
CLOSE = 2**-7  # relative: two steps of bfloat16, to which both readings are rounded
NAMED = 3


def places(gguf: Gguf, shapes: Mapping[str, tuple[int, ...]], blocks: int) -> dict[str, GgufTensor]:
    """Return the file's tensor of each parameter; raise UserError unless all match one another.

    `shapes` are those of the model's parameters by name, a tied head left out.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = gguf.metadata["general.architecture"]
    which = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(which, blocks)
    theirs = {each: str(names.get_name(each, (".weight", ".bias"))) for each in shapes}
    tensors = gguf.tensors
    if missing := [name for name in theirs.values() if name not in tensors]:
        raise UserError(
            f"{gguf.path} lacks {_few(missing)}, which its model needs: a part of it is missing. "
            "Download all of it again, or look for another conversion of the model to GGUF"
        )
    if stray := sorted(tensors.keys() - set(theirs.values()) - {FACTORS}):
        raise UserError(
            f"{gguf.path} holds {_few(stray)}, for which transformers has no place "
            f"in a {architecture} model: without them it would be a different one.\n"
            f"{WAY_OUT}"
        )
    for name, shape in shapes.items():
        if (found := tensors[theirs[name]]).shape != shape:
            raise UserError(
                f"{gguf.path} has {theirs[name]} of the shape "
                f"{found.shape}, but its metadata asks for {shape}.\n"
                f"{WAY_OUT}"
            )
    _require_readable(gguf)
    return {name: tensors[theirs[name]] for name in shapes}


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _require_readable(gguf: Gguf) -> None:
    """Refuse types that the gguf library, and so transformers, can't turn into floats."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    for kind in {each.kind for each in gguf.tensors.values()}:
        named = GGMLQuantizationType(kind)
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[named][1]), np.uint8), named)
        except NotImplementedError as error:
            raise UserError(
                f"{gguf.path} holds weights as {named.name}, which the gguf library does not "
                f"read.\n{WAY_OUT}"
            ) from error


def prove(gguf: Gguf, placed: Mapping[str, GgufTensor], folder: Path, config: Any) -> None:  # noqa: ANN401
    """Compare a converted folder with its file; raise UserError for any weight that differs.

    A check of transformers' reader by the gguf library's: which rows were permuted, too.
    """
    written = Weights(folder)
    for name, tensor in placed.items():
        found = written.read(name)
        found = found.reshape(len(found) if found.ndim > 1 else 1, -1)
        for begin, rows in _rows(tensor, _order(name, tensor, config, gguf)):
            part = found[begin : begin + len(rows)]
            if not torch.stack(torch.aminmax(rows)).isfinite().all():
                raise UserError(f"{gguf.path} holds NaN or inf in {name}: download it again")
            if not _agree(part, rows):
                raise UserError(
                    "transformers and the gguf library read different numbers "
                    f"from {name} of {gguf.path}, so neither was used.\n"
                    f"{WAY_OUT}"
                )


def _agree(read: torch.Tensor, rows: torch.Tensor) -> bool:
    """Tell whether bfloat16 numbers are float32 ones, rounded: nearly always bit for bit."""
    if torch.equal(read, rows.to(read.dtype)):
        return True
    return torch.allclose(read.float(), rows, CLOSE, torch.finfo(torch.bfloat16).tiny)


def _order(name: str, tensor: GgufTensor, config: Any, gguf: Gguf) -> np.ndarray[Any, Any]:  # noqa: ANN401
    """Return which row of the file is each row of the model: llama.cpp interleaves heads' halves.

    So do its files of the architecture llama alone; `convert_hf_to_gguf.py` calls it permute.
    """
    rows = np.arange(tensor.shape[0])
    for part, heads in PERMUTED.items():
        if f".{part}." in name and gguf.metadata["general.architecture"] == "llama":
            return rows.reshape(getattr(config, heads), -1, 2).swapaxes(1, 2).reshape(-1)
    return rows


def _rows(
    tensor: GgufTensor, order: np.ndarray[Any, Any]
) -> Iterator[tuple[int, torch.Tensor]]:  # (rows, columns) float32
    """Dequantize a tensor in the model's order, some rows at a time."""
    from gguf import GGMLQuantizationType, dequantize

    kind, size = GGMLQuantizationType(tensor.kind), tensor.end - tensor.begin
    rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
    raw = np.memmap(tensor.path, np.uint8, "r", tensor.begin, (rows, size // rows))
    for begin in range(0, rows, ROWS):
        chosen = raw[order[begin : begin + ROWS]] if rows > 1 else raw
        yield begin, torch.from_numpy(np.array(dequantize(np.array(chosen), kind)))
