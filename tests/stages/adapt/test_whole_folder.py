"""Whole folders: other scales in each affine format, an adapter merged in, and quantized again."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from corrected_model import NOWHERE, quantized_run
from quantized_folder import Choice, write
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.formats.foreign.folder import QuantizedFolder
from hubq.machine.progress import SILENT
from hubq.methods.adapters.branches.correction import Correction
from hubq.methods.adapters.branches.scales import Scales
from hubq.records.run_folder import CHECKPOINT
from hubq.stages.adapt.quantized_modules import QuantizedModules
from hubq.stages.adapt.whole_folder import merged, requantized, write_with
from hubq.stages.evaluate.inference.loading import load
from hubq.tensors import Affine, Grid

AFFINE = ("compressed-tensors", "gptq", "awq", "hubq")
SCALES = {
    "compressed-tensors": "weight_scale",
    "gptq": "scales",
    "awq": "scales",
    "hubq": "weight_scale",
}
IDS = torch.arange(40).view(2, 20)


def trained(folder: Path) -> dict[str, Affine]:
    """Return the modules of a folder with scales as a training leaves them."""
    source, found = QuantizedFolder(folder), {}
    for number, module in enumerate(source.modules):
        quantized = source.read(module)
        assert isinstance(quantized, Affine)
        layer = Scales(quantized)
        with torch.no_grad():
            random = torch.Generator().manual_seed(number)
            noise = torch.randn(layer.change.shape, generator=random)
            layer.change.copy_(noise * quantized.scales.float().mean() / 4)
        found[module] = layer.finished()
    return found


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function from a format to a quantized folder in two shards."""

    def make(form: str) -> Path:
        grid = Grid(4, 32, symmetric=form == "gptq")
        write(tiny_model("llama"), tmp_path / form, Choice(format_named(form), grid))
        _in_two(tmp_path / form)
        return tmp_path / form

    return make


def _in_two(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {name: names[number % 2] for number, name in enumerate(sorted(tensors))}
    for file in names:
        own = {name: each for name, each in tensors.items() if weight_map[name] == file}
        save_file(own, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {
        name: each
        for path in sorted(folder.glob("*.safetensors"))
        for name, each in load_file(path).items()
    }


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(IDS).logits.float()
    return found


def of_weights(
    base: Path, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return what the base answers with other weights of some modules."""
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(base, dtype=dtype)
    model.load_state_dict({f"{name}.weight": each for name, each in weights.items()}, strict=False)
    return logits(model)


@pytest.mark.parametrize("form", AFFINE)
def test_all_bytes_but_those_of_the_scales_stay(
    form: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    source, target = folder(form), tmp_path / "target"
    changed = trained(source)

    write_with(source, target, changed)

    assert sorted(path.name for path in target.iterdir()) == sorted(
        path.name for path in source.iterdir()
    )
    for path in source.iterdir():
        before, after = path.read_bytes(), (target / path.name).read_bytes()
        if path.suffix == ".safetensors":
            end = 8 + int.from_bytes(before[:8], "little")
            assert after[:end] == before[:end]
            assert len(after) == len(before)
        else:
            assert after == before
    before_, after_ = tensors_of(source), tensors_of(target)
    other = {name for name in before_ if not torch.equal(before_[name], after_[name])}
    assert other == {f"{module}.{SCALES[form]}" for module in changed}


@pytest.mark.parametrize("form", AFFINE)
def test_what_was_trained_is_what_the_folder_answers(
    form: str, folder: Callable[[str], Path], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    source, target = folder(form), tmp_path / "target"
    changed = trained(source)
    write_with(source, target, changed)

    found = logits(load(target, device="cpu", dtype="float32").model)

    # transformers unpacks asymmetric compressed-tensors weights into the dtype of the scales.
    dtype = torch.bfloat16 if form == "compressed-tensors" else torch.float32
    weights = {name: each.dequantize(dtype) for name, each in changed.items()}
    torch.testing.assert_close(
        found, of_weights(tiny_model("llama"), weights), rtol=1e-4, atol=1e-5
    )


def test_plain_transformers_reads_it(
    folder: Callable[[str], Path], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    source, target = folder("compressed-tensors"), tmp_path / "target"
    changed = trained(source)
    write_with(source, target, changed)

    auto: Any = AutoModelForCausalLM
    found = logits(auto.from_pretrained(target, dtype=torch.bfloat16))

    weights = {name: each.dequantize() for name, each in changed.items()}
    expected = of_weights(tiny_model("llama"), weights, torch.bfloat16)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


def test_scales_that_a_format_cannot_hold_leave_no_folder(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    source, target = folder("gptq"), tmp_path / "target"
    changed = trained(source)
    (name, each), *_ = changed.items()
    changed[name] = Affine(each.codes, each.scales * 2.0**-20, None, 4, 32)

    with pytest.raises(UserError, match="too small or too large for float16"):
        write_with(source, target, changed)

    assert not target.exists()


RTN = {"name": "rtn", "bits": 3, "group_size": 32}
HELD = [(RTN, "compressed-tensors"), (RTN, "hubq"), ({"name": "bitsandbytes"}, "bitsandbytes")]


def corrections(run: Path, rank: int = 4) -> dict[str, Correction]:
    torch.manual_seed(0)
    modules, found = QuantizedModules(run / "model"), {}
    for name in modules.weights.info:
        module = name.rpartition("_proj.")[0] + "_proj"
        if "_proj." in name and module not in found:
            out, columns = modules.module(module).shape
            found[module] = Correction(
                torch.randn(rank, columns) / 8, torch.randn(out, rank) / 8, {}
            )
    return found


@pytest.mark.parametrize(("method", "form"), HELD, ids=[form for _, form in HELD])
def test_a_merged_folder_is_the_quantized_model_with_its_adapter_in_16_bits(
    method: dict[str, Any], form: str, tmp_path: Path
) -> None:
    plan, run = quantized_run(tmp_path, "qwen2", method, form)
    added = corrections(run)

    facts = merged(plan, run / "model", tmp_path / "merged", added, 0.5)

    modules = QuantizedModules(run / "model")
    auto: Any = AutoModelForCausalLM
    state = auto.from_pretrained(tmp_path / "merged", dtype=torch.bfloat16).state_dict()
    for name, each in added.items():
        expected = modules.module(name).dequantize() + 0.5 * each.b @ each.a
        torch.testing.assert_close(
            state[f"{name}.weight"], expected.bfloat16(), rtol=8e-3, atol=1e-6
        )
    for name in ("model.norm.weight", "model.layers.1.self_attn.v_proj.bias"):
        assert torch.equal(state[name], modules.read(name))
    config = json.loads((tmp_path / "merged" / "config.json").read_bytes())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
    assert "in 16 bits" in facts[0]


@pytest.mark.parametrize(
    "method", [RTN, {"name": "gptq", "bits": 4, "group_size": 32}], ids=["rtn", "gptq"]
)
def test_a_merged_folder_is_quantized_again_as_the_recipe_says(
    method: dict[str, Any], tmp_path: Path
) -> None:
    plan, run = quantized_run(tmp_path, "llama", method, "compressed-tensors")
    added = corrections(run)
    whole = run / "adapted" / "steps" / "merged"
    merged(plan, run / "model", whole, added, 1.0)

    checkpoint = requantized(plan, run, whole, NOWHERE, SILENT)

    found = run / "adapted" / "model"
    assert checkpoint.files.keys() == {path.name for path in found.iterdir()}
    assert checkpoint.facts[0].startswith("The quantized model and its adapter were merged")
    before, after = (
        json.loads((each / "config.json").read_bytes()) for each in (run / "model", found)
    )
    assert before == after
    name = "model.layers.1.mlp.up_proj"
    if method is RTN:
        weight = QuantizedModules(whole).read(f"{name}.weight").float()
        expected = Affine.fit(weight, Grid(3, 32))
        assert torch.equal(QuantizedModules(found).module(name).dequantize(), expected.dequantize())
    else:
        assert checkpoint.calibration_tokens == 8 * 64


def test_quantizing_again_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, run = quantized_run(tmp_path, "llama", RTN, "compressed-tensors")
    whole, again = run / "adapted" / "steps" / "merged", run / "adapted" / "steps" / "again"
    merged(plan, run / "model", whole, corrections(run), 1.0)
    expected = requantized(plan, run, whole, NOWHERE, SILENT)
    shutil.move(run / "adapted" / "model", again / "model")  # as killed before that was moved
    monkeypatch.setattr("hubq.stages.adapt.whole_folder.quantize", None)

    found = requantized(plan, run, whole, NOWHERE, SILENT)
    once_more = requantized(plan, run, whole, NOWHERE, SILENT)

    assert found == once_more == expected
    assert (run / "adapted" / "model" / "model.safetensors").is_file()
    assert (again / CHECKPOINT).is_file()
