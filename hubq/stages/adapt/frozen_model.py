"""The quantized model as it is trained beside: its linears stay quantized, and nothing of it moves.

A linear computes its dense weight when data pass forward and again when gradients pass back, and
forgets it both times, so that the model takes the memory of its codes. What it computes is what the
readers of its folder do: the weight is dequantized in float32 and rounded to the dtype of the run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hubq.methods.adapters.branches.lora import Branch
from hubq.sources.architecture import family_of
from hubq.sources.skeleton import without_weights
from hubq.sources.tensor_headers import DTYPES
from hubq.stages.adapt.quantized_modules import QuantizedModules
from hubq.stages.convert.files import LEFT_OUT
from hubq.tensors import QuantizedTensor
from hubq.tensors.quantized import as_read
from hubq.tensors.thin import Thin, moved

# From a linear's name, its quantized weight and itself to what replaces it. It has its bias, if any
# is there, and a weight without data, of the dtype to which readers round what they dequantize.
Replace = Callable[[str, QuantizedTensor, nn.Linear], nn.Module]


class FrozenLinear(nn.Module):
    """A linear that keeps its quantized weight, and gives gradients to its inputs alone."""

    def __init__(self, weight: QuantizedTensor, replaced: nn.Linear) -> None:
        super().__init__()
        self.weight = Thin(weight)
        self.rounded = replaced.weight.dtype
        self.register_parameter("bias", replaced.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Dequantize the weight, multiply and forget it."""
        product: Tensor = _Product.apply(inputs, self.dense, self.bias)  # type: ignore[no-untyped-call]
        return product

    def dense(self, dtype: torch.dtype) -> Tensor:  # (out, in)
        """Compute the weight."""
        return as_read(self.weight, self.rounded, dtype)


class _Product(torch.autograd.Function):
    """Inputs times a weight that is dequantized each time it is needed, plus a bias."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        inputs: Tensor,
        dense: Callable[[torch.dtype], Tensor],
        bias: Tensor | None,
    ) -> Tensor:
        """Keep no tensor: the gradient of the inputs needs only the weight."""
        ctx.dense = dense
        return linear(inputs, dense(inputs.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        """Return the gradient of the inputs."""
        (gradient,) = gradients
        return gradient @ ctx.dense(gradient.dtype), None, None


class Beside(nn.Module):
    """A frozen linear, and a branch whose outputs are added to its own."""

    def __init__(self, frozen: FrozenLinear, branch: Branch) -> None:
        super().__init__()
        self.frozen = frozen
        self.branch = branch

    def forward(self, inputs: Tensor) -> Tensor:
        """Add both."""
        flat = inputs.flatten(0, -2)
        return self.branch.onto(self.frozen(flat), flat).view(*inputs.shape[:-1], -1)


def frozen_model(folder: Path, device: torch.device, dtype: torch.dtype, replace: Replace) -> Any:  # noqa: ANN401 - a model of transformers
    """Load a folder that hubq quantized, with something else for each linear of its blocks.

    All that `replace` gets is on the device. The linears of a dense copy are `Plain` tensors.
    Raises UserError where a tensor is missing.
    """
    stored = QuantizedModules(folder)
    family = family_of(stored.config)
    kept = {key: each for key, each in stored.config.items() if key not in LEFT_OUT}
    model = without_weights(kept)
    linears = list(family.linears(model.config.num_hidden_layers))
    names = model.state_dict().keys() - {f"{name}.weight" for name in linears}
    state = {
        name: stored.read(name).to(device, dtype) for name in names - {*model.all_tied_weights_keys}
    }
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    rotary = model.get_decoder().rotary_emb
    model.get_decoder().rotary_emb = type(rotary)(model.config).to(device)
    model.requires_grad_(False)
    for name in linears:
        replaced = model.get_submodule(name)
        replaced.weight.data = replaced.weight.data.to(_rounded(stored, name))
        quantized = moved(stored.module(name), device)
        model.set_submodule(name, replace(name, quantized, replaced))
    return model.eval()


def _rounded(stored: QuantizedModules, name: str) -> torch.dtype:
    """Return the dtype to which readers round a weight, whatever they compute in then."""
    if stored.quantization.get("load_in_4bit"):
        named: torch.dtype = getattr(torch, stored.quantization["bnb_4bit_compute_dtype"])
        return named
    if stored.quantization.get("dequantize"):  # compressed-tensors
        return DTYPES[stored.weights.info[f"{name}.weight_scale"].dtype]
    return torch.float32
