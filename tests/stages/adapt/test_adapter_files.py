"""An adapter's files are plain peft's; a stranger's are read as far as they are understood."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hubq_folder
import pytest
import torch
from safetensors.torch import load_file, save_file
from taught_model import CPU, FORMATS, IDS, TinyModel, adapter, beside, quantized

from hubq.errors import UserError
from hubq.methods.adapters.branches.correction import Correction
from hubq.methods.adapters.ir_qlora import IRQLoRA
from hubq.methods.adapters.qlora import QLoRA
from hubq.runtime.modules import Packed
from hubq.stages.adapt.adapter_files import CONFIG, WEIGHTS, attach, renamed, write
from hubq.stages.adapt.frozen_model import Beside
from hubq.stages.evaluate.inference.loading import load

BASE = "acme/Tiny-Llama-RTN-4bit"
UP = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"


def logits(model: Any, device: torch.device = CPU) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS.to(device)).logits
    return found


def corrections(model: Any) -> dict[str, Correction]:
    """Give the branches of a model random parameters; return what these fold into."""
    torch.manual_seed(1)
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, Beside):
            for parameter in module.branch.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
            found[name] = Correction(*module.branch.folded(), {})
    return found


def written(folder: Path, target: Path, kind: type[QLoRA] = QLoRA) -> torch.Tensor:
    """Write an adapter of a folder's model; return the logits before it was folded."""
    chosen = adapter(kind)
    model = beside(folder, chosen)
    found = corrections(model)
    write(target, found, chosen.alpha, chosen.rank, BASE, torch.float32)
    return logits(model)


# Imports peft: ten seconds where no other test has.
@pytest.mark.parametrize("kind", [QLoRA, IRQLoRA])
def test_plain_peft_computes_what_was_trained(
    kind: type[QLoRA], tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = quantized(tiny_model("llama3.2"), tmp_path / "model", "dense")
    before = written(folder, tmp_path / "adapter", kind)
    base = load(folder, device="cpu", dtype="float32").model
    plain = logits(base)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks transformers for what that will not have for long
        import peft

        model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")

    assert (before - plain).abs().max() > 0.1
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)


# bitsandbytes multiplies by kernels of its own, in 16 bits, and is not read block by block.
READ = [
    (format_name, by_blocks, 3e-2 if format_name == "bitsandbytes" else 1e-5)
    for format_name in FORMATS
    for by_blocks in (False, True)
    if not (by_blocks and format_name == "bitsandbytes")
]


@pytest.mark.parametrize(("format_name", "by_blocks", "tolerance"), READ)
def test_an_attached_adapter_computes_what_was_trained(
    format_name: str, by_blocks: bool, tolerance: float, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = quantized(tiny_model("llama"), tmp_path / "model", format_name)
    before = written(folder, tmp_path / "adapter", IRQLoRA)
    model = load(folder, device="cpu", dtype="float32", by_blocks=by_blocks).model
    plain = logits(model)

    attach(model, tmp_path / "adapter")

    assert (logits(model) - plain).abs().max() > 0.1
    for _ in range(2):
        found = logits(model).float()
        torch.testing.assert_close(found, before, rtol=tolerance, atol=tolerance)


def test_it_is_attached_to_a_model_that_stays_packed(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    hubq_folder.write(tiny_model("llama"), folder)
    before = written(folder, tmp_path / "adapter")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["packed"] = True
    (folder / "config.json").write_text(json.dumps(config))
    model = load(folder, device="cpu", dtype="float32").model

    attach(model, tmp_path / "adapter")

    assert isinstance(model.get_submodule("model.layers.0.mlp.up_proj"), Packed)
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)


def test_it_is_added_in_float32_to_a_model_of_16_bits(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    """So does peft, which casts adapters and their inputs."""
    folder = quantized(tiny_model("llama"), tmp_path / "model", "dense")
    written(folder, tmp_path / "adapter")
    model = load(folder, device="cpu", dtype="bfloat16").model
    linear = model.get_submodule("model.layers.0.mlp.up_proj")
    inputs = torch.randn(3, 64).bfloat16()
    plain = linear(inputs)

    attach(model, tmp_path / "adapter")

    tensors = load_file(tmp_path / "adapter" / WEIGHTS)
    a, b = tensors[UP], tensors[UP.replace("lora_A", "lora_B")]
    expected = plain.float() + inputs.float() @ a.T @ b.T * (16 / 4)
    torch.testing.assert_close(linear(inputs), expected.bfloat16(), rtol=1e-2, atol=1e-2)
    assert linear(inputs).dtype == torch.bfloat16


def test_it_runs_where_the_model_does(
    device: torch.device, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = quantized(tiny_model("llama"), tmp_path / "model", "dense")
    before = written(folder, tmp_path / "adapter")
    model = load(folder, device="cpu", dtype="float32").model.to(device)

    attach(model, tmp_path / "adapter")

    torch.testing.assert_close(logits(model, device).cpu(), before, rtol=1e-4, atol=1e-5)


def some(shape: tuple[int, int], names: list[str], rank: int = 4) -> dict[str, Correction]:
    torch.manual_seed(0)
    return {
        name: Correction(torch.randn(rank, shape[1]), torch.randn(shape[0], rank), {})
        for name in names
    }


def test_equal_corrections_give_equal_bytes_without_a_local_path(tmp_path: Path) -> None:
    names = ["model.layers.1.mlp.up_proj", "model.layers.0.mlp.up_proj"]
    given = some((8, 6), names)

    for place, own in (("a", given), ("b", dict(reversed(given.items())))):
        write(tmp_path / place, own, 16, 4, BASE, torch.float32)

    for name in (CONFIG, WEIGHTS):
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert str(tmp_path).encode() not in content
    config = json.loads((tmp_path / "a" / CONFIG).read_bytes())
    assert config["target_modules"] == ["up_proj"]
    assert (config["r"], config["lora_alpha"]) == (4, 16)
    assert config["base_model_name_or_path"] == BASE
    with pytest.raises(AssertionError, match="local path"):
        write(tmp_path / "c", given, 16, 4, str(tmp_path), torch.float32)


def test_linears_that_not_every_block_has_are_named_in_full(tmp_path: Path) -> None:
    names = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"]

    write(tmp_path, some((8, 6), names), 16, 4, None, torch.float32)

    config = json.loads((tmp_path / CONFIG).read_bytes())
    assert config["target_modules"] == sorted(names)


def test_a_lower_rank_is_filled_up_and_adds_the_same(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj"
    given = some((8, 6), [name], rank=3)

    write(tmp_path, given, 4, 4, None, torch.bfloat16)

    tensors = load_file(tmp_path / WEIGHTS)
    a, b = (tensors[f"base_model.model.{name}.lora_{each}.weight"] for each in "AB")
    assert (a.shape, b.shape) == ((4, 6), (8, 4))
    own = [each.bfloat16().float() for each in given[name][:2]]
    assert torch.equal(b.float() @ a.float(), own[1] @ own[0])


def test_a_base_is_named_at_its_commit(tmp_path: Path) -> None:
    write(tmp_path, some((8, 6), ["model.layers.0.mlp.up_proj"]), 16, 4, None, torch.float32)
    before = (tmp_path / CONFIG).read_bytes()

    after = json.loads(renamed(before, BASE, "abc123"))

    changed = {"base_model_name_or_path": BASE, "revision": "abc123"}
    assert after == {**json.loads(before), **changed}


Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors, dict[str, Any]], object]


def _renamed(old: str, new: str) -> Change:
    def change(tensors: Tensors, _: dict[str, Any]) -> None:
        for name in [each for each in tensors if old in each]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def _set(**options: object) -> Change:
    return lambda _, config: config.update(options)


HOSTILE: dict[str, tuple[str, Change]] = {
    "another kind": ("peft_type: IA3", _set(peft_type="IA3")),
    "DoRA": ("use_dora: True", _set(use_dora=True)),
    "biases": ("bias: all", _set(bias="all")),
    "biases of B": ("lora_bias: True", _set(lora_bias=True)),
    "modules to save": (r"modules_to_save: \['lm_head'\]", _set(modules_to_save=["lm_head"])),
    "parameters": ("target_parameters: ", _set(target_parameters=["x"])),
    "tokens": ("trainable_token_indices: ", _set(trainable_token_indices=[1])),
    "repeated layers": ("layer_replication: ", _set(layer_replication=[[0, 2]])),
    "alphas of their own": ("alpha_pattern: ", _set(alpha_pattern={"(a+)+$": 8})),
    "a start that moves the base": ("init_lora_weights: pissa", _set(init_lora_weights="pissa")),
    "an option of tomorrow": ("squared: True", _set(squared=True)),
    "no rank": ("no rank r", _set(r=True)),
    "no alpha": ("no number lora_alpha", _set(lora_alpha="16")),
    "an alpha that is no number": ("no number lora_alpha", _set(lora_alpha=float("nan"))),
    "another rank": ("rank 4 for .* says r: 8", _set(r=8)),
    "a pattern": ("reads no patterns", _set(target_modules="(a+)+$")),
    "not targeted": ("none of the target_modules", _set(target_modules=["q_proj"])),
    "no such linear": ("no such linear", _renamed("layers.0", "layers.7")),
    "a method's name": ("none of the target_modules", _renamed("mlp.up_proj", "forward")),
    "not a linear": (
        "no linear",
        lambda tensors, config: (
            _renamed("mlp.up_proj", "input_layernorm")(tensors, config),
            config["target_modules"].append("input_layernorm"),
        ),
    ),
    "the head": (
        "no such linear",
        lambda tensors, config: (
            _renamed("model.layers.0.mlp.up_proj", "lm_head")(tensors, config),
            config["target_modules"].append("lm_head"),
        ),
    ),
    "only an A": ("no plain LoRA", lambda tensors, _: tensors.pop(UP)),
    "a magnitude": (
        "no plain LoRA",
        lambda tensors, _: tensors.update({UP.replace("A.weight", "magnitude"): torch.ones(4)}),
    ),
    "nothing": ("no plain LoRA", lambda tensors, _: tensors.clear()),
    "another shape": (
        "as if it were",
        lambda tensors, _: tensors.update({UP: torch.ones(4, 65)}),
    ),
    "ranks that differ": (
        "none of a LoRA",
        lambda tensors, _: tensors.update({UP: torch.ones(5, 64)}),
    ),
    "integers": (
        "none of a LoRA",
        lambda tensors, _: tensors.update({UP: torch.ones(4, 64, dtype=torch.int32)}),
    ),
    "no matrix": ("none of a LoRA", lambda tensors, _: tensors.update({UP: torch.ones(4)})),
    "NaN": ("NaN or inf", lambda tensors, _: tensors[UP].fill_(torch.nan)),
}


@pytest.fixture(scope="module")
def made(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model, and an adapter of it."""
    root = tmp_path_factory.mktemp("stranger")
    folder = quantized(tiny_model("llama"), root / "model", "dense")
    written(folder, root / "adapter")
    return load(folder, device="cpu", dtype="float32").model, root / "adapter"


@pytest.mark.parametrize(("said", "change"), HOSTILE.values(), ids=HOSTILE)
def test_a_strangers_adapter_that_hubq_does_not_understand_is_refused(
    said: str, change: Change, made: tuple[Any, Path], tmp_path: Path
) -> None:
    model, adapter_folder = made
    tensors = load_file(adapter_folder / WEIGHTS)
    config = json.loads((adapter_folder / CONFIG).read_bytes())
    change(tensors, config)
    save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    plain = logits(model)

    with pytest.raises(UserError, match=said):
        attach(model, tmp_path)

    assert torch.equal(logits(model), plain)


def test_files_that_are_cut_off_or_missing_are_refused(
    made: tuple[Any, Path], tmp_path: Path
) -> None:
    model, adapter_folder = made
    (tmp_path / CONFIG).write_bytes((adapter_folder / CONFIG).read_bytes())

    with pytest.raises(UserError, match="safetensors only"):
        attach(model, tmp_path)
    (tmp_path / WEIGHTS).write_bytes((adapter_folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(UserError, match="truncated"):
        attach(model, tmp_path)


def test_harmless_options_of_peft_change_nothing(made: tuple[Any, Path], tmp_path: Path) -> None:
    model, adapter_folder = made
    config = json.loads((adapter_folder / CONFIG).read_bytes())
    config |= {
        "peft_version": "0.21.2",
        "lora_dropout": 0.1,
        "runtime_config": {"ephemeral_gpu_offload": False},
        "kasa_config": None,
        "target_modules": "all-linear",
        "use_rslora": True,
        "lora_alpha": 16 * 4**0.5 / 4,  # alpha / sqrt(rank) is then what alpha / rank was
    }
    (tmp_path / CONFIG).write_text(json.dumps(config))
    (tmp_path / WEIGHTS).write_bytes((adapter_folder / WEIGHTS).read_bytes())
    module = model.get_submodule("model.layers.1.mlp.up_proj")
    inputs = torch.randn(2, 64)
    plain = module(inputs)

    for folder in (adapter_folder, tmp_path):
        attach(model, folder)
    hooks = list(module._forward_hooks.values())[-2:]

    first, second = (hook(module, (inputs,), plain) for hook in hooks)
    assert torch.equal(first, second)
    for each in model.modules():
        each._forward_hooks.clear()
