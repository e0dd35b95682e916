"""Read compressed-tensors modules that anyone wrote: integers, packed or not, and floats.

Before 0.18 the library packed 3, 5, 6 and 7 bits into 32 // bits codes a word; the width of the
rows tells the two apart. Until 2026-08 it wrote `weight_g_idx`, the group of each column, for
`actorder: group`; neither it nor vLLM reads that any more, hubq does.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign import fp4, fp8
from hubq.formats.foreign.parts import contradiction, fits, matrix, order_of, require_finite, take
from hubq.tensors import PER_CHANNEL, Affine, QuantizedTensor, Reordered, packing

EVERY_LINEAR = "Linear"
STRATEGIES = ("group", "channel", "tensor")
WIDTHS = range(2, 9)
FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def read(module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> QuantizedTensor:
    """Return a module's tensor; raise UserError where config and tensors contradict one another."""
    group = group_of(module, config)
    arguments = _weights_of(module, group)
    bits = arguments["num_bits"]
    if arguments["type"] == "float":
        read_floats = fp8.read_scaled if bits == fp8.BITS else fp4.read
        return read_floats(module, tensors, arguments, group.get("input_activations"))
    codes = _codes(module, tensors, bits)
    out, columns = codes.shape
    scale = take(module, "weight_scale", tensors, *FLOATS)
    if scale.numel() == 1 and arguments["strategy"] == "tensor":
        scale = scale.reshape(1, 1).expand(out, 1).contiguous()
    size = arguments["group_size"] or columns
    if tuple(scale.shape) != (out, -(-columns // size)):
        said = f"strategy {arguments['strategy']} with group_size {arguments['group_size']}"
        found = f"has scales {tuple(scale.shape)} for a weight {(out, columns)}"
        raise contradiction(module, said, found)
    require_finite(module, scale)
    order = _order(module, tensors, size)
    inputs = group.get("input_activations")
    tensor = Affine(
        codes=codes if order is None else codes[:, order.to(codes.device)],
        scale=scale,
        zero=_zero(module, tensors, (bits, columns), tuple(scale.shape)),
        bits=bits,
        group_size=size,
        activation_bits=None if inputs is None else inputs["num_bits"],
    )
    if arguments.get("symmetric", True) != tensor.symmetric:
        said = f"symmetric: {str(arguments.get('symmetric', True)).lower()}"
        raise contradiction(module, said, f"has {'no' if tensor.symmetric else 'stored'} zeros")
    return tensor if order is None else Reordered(tensor, order)


def group_of(module: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Find the config group that a module's name selects, or else its being a Linear.

    Names come before patterns and those before classes, as in the library.
    """
    targets: dict[str, dict[str, Any]] = {}
    for group in config.get("config_groups", {}).values():
        _require_group(group)
        for target in group["targets"]:
            targets.setdefault(target, group)
    named = [target for target in targets if target == module]
    patterns = sorted(target for target in targets if target.startswith("re:"))
    fitting = [target for target in patterns if fits(target.removeprefix("re:"), module)]
    every = [target for target in (EVERY_LINEAR,) if target in targets]
    for target in (*named, *fitting, *every):
        return targets[target]
    raise UserError(
        f"the quantization_config has no config group for {module}, which is quantized; "
        "fetch the model again"
    )


def _require_group(group: Any) -> None:  # noqa: ANN401 - JSON
    """Refuse a config group that doesn't say, as text and objects, what is done to what."""
    said = group if isinstance(group, dict) else {}
    targets = said.get("targets")
    named = isinstance(targets, list) and all(isinstance(each, str) for each in targets)
    parts = (said.get("weights"), said.get("input_activations"))
    if not named or not all(isinstance(each, dict | None) for each in parts):
        raise UserError(
            "the quantization_config has a config group without a list of names as targets, or "
            "with settings that are no objects; fetch the model again"
        )


def _weights_of(module: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a group's weights are quantized; refuse what is no integers, FP8 or FP4.

    Their group_size is None where a row has one scale, which writers also say as -1.
    """
    arguments: dict[str, Any] = {"type": "int", **(group.get("weights") or {})}
    kind, bits, size = arguments["type"], arguments.get("num_bits"), arguments.get("group_size")
    is_float = kind == "float" and bits in (fp4.BITS, fp8.BITS)
    if not is_float and (kind != "int" or type(bits) is not int or bits not in WIDTHS):
        raise UserError(
            f"{module} has weights of type {kind} with {bits} bits; hubq reads integers of 2 to 8 "
            "bits (pack-quantized and int-quantized), floats of 8 (float-quantized) and NVFP4 and "
            "MXFP4"
        )
    if is_float:
        return arguments
    size = None if size == PER_CHANNEL else size
    strategy = arguments.get("strategy") or ("group" if size else "channel")
    if strategy not in STRATEGIES or (strategy == "group") != (type(size) is int and size > 0):
        raise UserError(
            f"the quantization_config says strategy: {strategy} and group_size: "
            f"{arguments.get('group_size')} for {module}; hubq reads group with a size, channel "
            "and tensor. Correct it in config.json if you know better, or look for another version "
            "of the model"
        )
    inputs = group.get("input_activations")
    if inputs is not None and not _is_dynamic(inputs):
        raise UserError(
            f"{module} rounds its inputs with scales from a calibration, which hubq does not keep"
        )
    return {**arguments, "strategy": strategy, "group_size": size}


def _is_dynamic(inputs: Mapping[str, Any]) -> bool:
    """Tell whether inputs are rounded to integers with scales that are found as they arrive."""
    bits = inputs.get("num_bits")
    is_integer = inputs.get("type", "int") == "int" and type(bits) is int and bits in WIDTHS
    return bool(inputs.get("dynamic")) and is_integer


def _codes(module: str, tensors: Mapping[str, Tensor], bits: int) -> Tensor:  # (out, in) uint8
    if f"{module}.weight" in tensors:
        integers = matrix(module, "weight", tensors, torch.int8)
        return integers.view(torch.uint8) + (1 << (bits - 1))  # modulo 256
    packed = matrix(module, "weight_packed", tensors, torch.int32)
    shape = take(module, "weight_shape", tensors, torch.int64, torch.int32).flatten().tolist()
    if len(shape) != 2 or min(shape) < 1:
        raise UserError(
            f"{module}.weight_shape holds {shape[:4]}, which is not the shape of a matrix: the "
            "file is damaged; fetch the model again"
        )
    out, columns = shape
    in_a_word = packing.WORD_BITS // bits
    if tuple(packed.shape) == (out, packing.words(columns, bits)):
        return packing.unpack(packed, bits, columns)
    if tuple(packed.shape) == (out, -(-columns // in_a_word)):
        return _padded_words(packed, bits)[:, :columns].contiguous()
    found = f"has weight_packed {tuple(packed.shape)} for a weight {(out, columns)}"
    raise contradiction(module, f"num_bits: {bits}", found)


def _padded_words(packed: Tensor, bits: int) -> Tensor:  # (rows, words) int32 -> uint8
    """Unpack words whose upper bits are not used, as versions before 0.18 wrote them."""
    places = range(0, packing.WORD_BITS // bits * bits, bits)
    codes = [(packed >> place) & ((1 << bits) - 1) for place in places]
    return torch.stack(codes, dim=2).flatten(1).to(torch.uint8)


def _zero(
    module: str, tensors: Mapping[str, Tensor], packed: tuple[int, int], shape: tuple[int, ...]
) -> Tensor | None:  # (out, groups) uint8; packed: the bits, and the columns of the weight
    """Return the zeros as unsigned numbers, from signed bytes or words packed like the weight."""
    found = tensors.get(f"{module}.weight_zero_point")
    if found is None:
        return None
    bits, columns = packed
    codes = tensors.get(f"{module}.weight_packed")
    is_dense = codes is None or codes.shape[1] == packing.words(columns, bits)
    if found.dtype == torch.int8 and tuple(found.shape) in ((), (1,), (1, 1), shape):
        return (found.view(torch.uint8) + (1 << (bits - 1))).expand(shape).contiguous()
    if found.dtype == torch.int32 and found.ndim == 2 and found.shape[1] == shape[1]:
        if is_dense and found.shape[0] == packing.words(shape[0], bits):
            return packing.unpack_columns(found, bits, shape[0])
        if not is_dense and found.shape[0] == -(-shape[0] // (packing.WORD_BITS // bits)):
            return _padded_words(found.T, bits)[:, : shape[0]].T.contiguous()
    raise UserError(
        f"{module}.weight_zero_point is {found.dtype} {tuple(found.shape)}, which does not fit "
        f"scales of {tuple(shape)}; fetch the model again"
    )


def _order(module: str, tensors: Mapping[str, Tensor], size: int) -> Tensor | None:
    groups = tensors.get(f"{module}.weight_g_idx")
    return None if groups is None else order_of(module, groups, size)
