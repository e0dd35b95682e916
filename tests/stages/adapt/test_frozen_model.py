"""The quantized model beside which is trained: what readers load, and nothing of it moves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from taught_model import CPU, FORMATS, IDS, TinyModel, adapter, beside, quantized, trainable
from torch import nn

from hubq.errors import UserError
from hubq.stages.adapt.frozen_model import FrozenLinear, frozen_model
from hubq.stages.evaluate.inference.loading import load
from hubq.tensors import Affine, Grid


def logits(model: Any, device: torch.device = CPU) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS.to(device)).logits
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("format_name", FORMATS)
def test_before_the_first_step_it_is_the_base_bit_for_bit(
    format_name: str, dtype: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = quantized(tiny_model("llama"), tmp_path / "model", format_name)
    # bitsandbytes multiplies by kernels of its own: the weights that it dequantizes stand for it.
    read = Path(f"{folder}-dequantized") if format_name == "bitsandbytes" else folder

    model = beside(folder, adapter(), dtype=getattr(torch, dtype))

    base = load(read, device="cpu", dtype=dtype).model
    assert torch.equal(logits(model), logits(base))


@pytest.mark.parametrize("family", ["llama3.2", "mistral", "qwen2", "qwen3"])
def test_every_family_is_the_base(family: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = quantized(tiny_model(family), tmp_path / "model", "compressed-tensors")

    model = beside(folder, adapter())

    base = load(folder, device="cpu", dtype="float32").model
    assert torch.equal(logits(model), logits(base))


def test_a_frozen_linear_gives_its_inputs_the_gradient_of_a_dense_weight() -> None:
    torch.manual_seed(0)
    weight = Affine.fit(torch.randn(48, 32), Grid(bits=3, group_size=16))
    replaced = nn.Linear(32, 48).requires_grad_(False)
    inputs, weights = torch.randn(2, 3, 5, 32).requires_grad_(), torch.randn(2, 3, 5, 48)

    (FrozenLinear(weight, replaced)(inputs) * weights).sum().backward()
    found, inputs.grad = inputs.grad, None
    outputs = nn.functional.linear(inputs, weight.dequantize(), replaced.bias)
    (outputs * weights).sum().backward()  # type: ignore[no-untyped-call]

    assert inputs.grad is not None
    assert torch.equal(found, inputs.grad)


def test_gradients_go_to_the_branches_alone(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = quantized(tiny_model("qwen2"), tmp_path / "model", "hubq")
    model = beside(folder, adapter())
    frozen = {name: each.clone() for name, each in model.named_parameters()}

    model(input_ids=IDS).logits.square().sum().backward()

    names = {name for name, each in model.named_parameters() if each.grad is not None}
    assert names == set(trainable(model)) == {name for name in frozen if ".branch." in name}
    assert len(names) == 2 * 7 * 2


def test_no_dense_weight_outlives_a_pass(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = quantized(tiny_model("llama"), tmp_path / "model", "compressed-tensors")
    model = beside(folder, adapter())
    saved: list[tuple[int, ...]] = []

    def keep(each: torch.Tensor) -> torch.Tensor:
        saved.append(tuple(each.shape))
        return each

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        model(input_ids=IDS).logits.sum()

    shapes = {each.frozen.weight.shape for each in model.modules() if hasattr(each, "frozen")}
    assert saved
    assert not shapes & set(saved)


def test_it_runs_on_another_device(
    device: torch.device, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = quantized(tiny_model("llama"), tmp_path / "model", "hubq")

    model = beside(folder, adapter(), device)

    torch.testing.assert_close(
        logits(model, device).cpu(), logits(beside(folder, adapter())), rtol=1e-4, atol=1e-5
    )


def test_a_model_that_lacks_a_tensor_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = quantized(tiny_model("llama"), tmp_path / "model", "dense")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(UserError, match=r"model\.norm has no tensor weight"):
        frozen_model(folder, CPU, torch.float32, lambda name, weight, linear: linear)
