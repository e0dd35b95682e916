"""What strangers' quantized folders say in words of their own, read as it was meant."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import strangers
import torch
from safetensors.torch import load_file, save_file
from strangers import Drawing, Stranger, awq_config, gptq_config
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign.folder import QuantizedFolder
from hubq.stages.convert.conversion import ConversionRequest
from hubq.stages.convert.convert import convert
from hubq.stages.evaluate.inference.loading import load

Base = Callable[[str], Path]
DOWN = "model.layers.1.mlp.down_proj"


@pytest.fixture
def base(tiny_model: Base) -> Path:
    return tiny_model("llama")


def gptq(base: Path, folder: Path, **changes: object) -> Stranger:
    drawing = Drawing(symmetric=True)
    config = gptq_config(drawing, **changes)
    return strangers.write(base, folder, drawing, strangers.gptq, config)


def to(form: str, source: Path, *, lossy: bool = False) -> Path:
    out = source.with_name(f"{source.name}-{form}")
    convert(source, out, ConversionRequest(form, source.name, lossy=lossy))
    return out


def logits(folder: Path) -> Tensor:
    model = load(folder, device="cpu", dtype="bfloat16").model
    with torch.inference_mode():
        found: Tensor = model(torch.arange(40).reshape(2, 20)).logits
    return found


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


# AutoRound: the layouts of gptq and awq under another name.


@pytest.mark.parametrize("method", ["auto-round", "intel/auto-round"])
@pytest.mark.parametrize("layout", ["gptq", "awq"])
def test_what_auto_round_packed_is_read_as_the_layout_that_it_is(
    base: Path, tmp_path: Path, method: str, layout: str
) -> None:
    drawing = Drawing(symmetric=layout == "gptq")
    packing = f"auto_round:auto_{layout}"
    said = {"quant_method": method, "bits": 4, "group_size": 32, "data_type": "int"}
    config = {**said, "sym": drawing.symmetric, "packing_format": packing}
    pack = strangers.gptq if layout == "gptq" else strangers.awq
    source = strangers.write(base, tmp_path / "old", drawing, pack, config)

    found = QuantizedFolder(source.folder)

    read = {module: found.read(module).dequantize().double() for module in found.modules}
    assert all(torch.equal(read[name], each.weight()) for name, each in source.drawn.items())
    dense = logits(source.dense(tmp_path / "dense"))
    assert torch.equal(logits(source.folder), dense)
    assert torch.equal(logits(to("compressed-tensors", source.folder)), dense)


def test_modules_that_auto_round_sets_apart_are_read_with_their_own_bits(
    base: Path, tmp_path: Path
) -> None:
    source = gptq(base, tmp_path / "old")
    eight = strangers.gptq(Drawing(8, symmetric=True).of((64, 128), 5))
    source.edit_tensors(lambda all_: all_.update({f"{DOWN}.{k}": t for k, t in eight.items()}))
    source.edit_config(
        quant_method="auto-round",
        packing_format="auto_round:auto_gptq",
        extra_config={DOWN: {"bits": 8}, "lm_head": {"bits": 16}},
    )

    tensor = QuantizedFolder(source.folder).read(DOWN)

    assert torch.equal(
        tensor.dequantize().double(), Drawing(8, symmetric=True).of((64, 128), 5).weight()
    )


def test_a_packing_of_auto_round_that_hubq_does_not_read_is_refused(
    base: Path, tmp_path: Path
) -> None:
    source = gptq(base, tmp_path / "old")
    source.edit_config(quant_method="auto-round", packing_format="auto_round:nv_fp")

    with pytest.raises(UserError, match="packed by AutoRound as auto_round:nv_fp; hubq reads its"):
        QuantizedFolder(source.folder)


# What one reader took and another refused.


def test_gptq_whose_settings_lie_beside_is_evaluated(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old")
    expected = logits(source.dense(tmp_path / "dense"))
    said: dict[str, Any] = {}
    edit_config(source.folder, lambda config: said.update(config.pop("quantization_config")))
    del said["quant_method"]
    (source.folder / "quantize_config.json").write_text(json.dumps(said))

    assert torch.equal(logits(source.folder), expected)


def test_gptq_with_biases_of_zeros_is_evaluated(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old")
    expected = logits(source.dense(tmp_path / "dense"))

    source.edit_tensors(
        lambda tensors: tensors.update({f"{name}.bias": torch.zeros(64) for name in source.drawn})
    )

    assert torch.equal(logits(source.folder), expected)


def test_gptq_with_biases_that_would_be_lost_is_not(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old")
    source.edit_tensors(lambda tensors: tensors.update({f"{DOWN}.bias": torch.ones(64)}))

    with pytest.raises(UserError, match=rf"has a tensor {DOWN}\.bias"):
        logits(source.folder)


ROWS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "channel", "group_size": -1}
ZEROS = {"format": "dense", "global_sparsity": 0.14, "sparsity_structure": "unstructured"}


@pytest.mark.parametrize("form", ["hubq", "dense"])
def test_a_row_with_one_scale_may_be_a_group_of_minus_one(
    base: Path, tmp_path: Path, form: str
) -> None:
    drawing = Drawing(group_size=64, symmetric=True)
    source = strangers.write(base, tmp_path / "old", drawing, packed_rows, compressed(ROWS))
    expected = logits(source.folder)  # by transformers and the library

    assert torch.equal(logits(to(form, source.folder)), expected)


def packed_rows(drawn: strangers.Drawn) -> dict[str, Tensor]:
    """Pack as compressed-tensors does, a scale for each row."""
    return {
        "weight_packed": strangers.words(drawn.codes, drawn.bits),
        "weight_scale": drawn.scales[:, :1].contiguous(),
        "weight_shape": torch.tensor(drawn.codes.shape),
    }


def compressed(weights: dict[str, Any], layout: str = "pack-quantized") -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "sparsity_config": ZEROS,
    }


# Floats of 8 bits: what hubq can do with them is to write them out.

FLOATS = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
SHAPES = {"tensor": [1], "channel": [None, 1], "block": [2, 2]}


def eight_bits(base: Path, folder: Path, strategy: str, part: str) -> Path:
    """Write all linears in 8-bit floats, as llm-compressor or DeepSeek do."""
    tensors = load_file(base / "model.safetensors")
    written = {}
    for name, weight in tensors.items():
        module, kind = name.removesuffix(".weight"), name.split(".")[-2]
        if kind not in strangers.LINEARS:
            written[name] = weight
            continue
        size = {"tensor": weight.shape, "channel": (1, weight.shape[1]), "block": (32, 32)}[
            strategy
        ]
        tiles = weight.float().unfold(0, size[0], size[0]).unfold(1, size[1], size[1])
        scale = (tiles.abs().amax((2, 3)) / 448).bfloat16()
        spread = scale.float().repeat_interleave(size[0], 0).repeat_interleave(size[1], 1)
        written[name] = (weight.float() / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
        written[f"{module}.{part}"] = scale.reshape(1) if strategy == "tensor" else scale
    folder.mkdir()
    save_file(written, folder / "model.safetensors", {"format": "pt"})
    for path in base.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("strategy", ["tensor", "channel", "block"])
def test_compressed_tensors_in_8_bit_floats_are_written_out_as_transformers_computes_them(
    base: Path, tmp_path: Path, strategy: str
) -> None:
    folder = eight_bits(base, tmp_path / "old", strategy, "weight_scale")
    block = {"block_structure": [32, 32]} if strategy == "block" else {}
    said = compressed(FLOATS | {"strategy": strategy} | block, "float-quantized")
    edit_config(folder, lambda config: config.update(quantization_config=said))

    assert torch.equal(logits(to("dense", folder)), logits(folder))


def test_deepseeks_blocks_of_8_bit_floats_are_written_out_as_transformers_computes_them(
    base: Path, tmp_path: Path
) -> None:
    folder = eight_bits(base, tmp_path / "old", "block", "weight_scale_inv")
    said = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
    edit_config(folder, lambda config: config.update(quantization_config=said))

    out = to("dense", folder)

    assert torch.equal(logits(out), logits(folder))
    assert "round the inputs of its linears; this copy's do not" in (out / "README.md").read_text()


@pytest.mark.parametrize("form", ["hubq", "gptq", "awq", "compressed-tensors"])
def test_8_bit_floats_go_nowhere_else(base: Path, tmp_path: Path, form: str) -> None:
    folder = eight_bits(base, tmp_path / "old", "channel", "weight_scale")
    said = compressed(FLOATS | {"strategy": "channel"}, "float-quantized")
    edit_config(folder, lambda config: config.update(quantization_config=said))

    with pytest.raises(UserError, match="no weights in 8-bit floats; dense holds their values"):
        to(form, folder)


def test_8_bit_floats_are_rounded_anew_where_that_is_allowed(base: Path, tmp_path: Path) -> None:
    folder = eight_bits(base, tmp_path / "old", "channel", "weight_scale")
    said = compressed(FLOATS | {"strategy": "channel"}, "float-quantized")
    edit_config(folder, lambda config: config.update(quantization_config=said))

    out = to("compressed-tensors", folder, lossy=True)

    assert torch.allclose(logits(out), logits(folder), atol=0.05)


@pytest.mark.parametrize(
    ("scale", "complaint"),
    [
        (torch.ones(3, 3), r"has weight_scale_inv \(3, 3\) for a weight \(64, 128\)"),
        (torch.full((2, 4), torch.nan), "hold NaN or inf"),
        (torch.ones(2, 4, dtype=torch.int64), "is torch.int64, not"),
    ],
)
def test_scales_of_8_bit_floats_that_cannot_be_are_refused(
    base: Path, tmp_path: Path, scale: Tensor, complaint: str
) -> None:
    folder = eight_bits(base, tmp_path / "old", "block", "weight_scale_inv")
    said = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    edit_config(folder, lambda config: config.update(quantization_config=said))
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {f"{DOWN}.weight_scale_inv": scale}, folder / "model.safetensors")

    with pytest.raises(UserError, match=complaint):
        to("dense", folder)


# Patterns of strangers.


SLOW = "(.*)" * 9 + "".join(f"\\{number}" for number in range(9, 0, -1)) + "[A-Z]$"


@pytest.mark.parametrize("pattern", [SLOW, "(unclosed", "*"])
def test_a_pattern_that_cannot_be_used_is_an_error_and_takes_no_hour(
    base: Path, tmp_path: Path, pattern: str
) -> None:
    source = gptq(base, tmp_path / "old", dynamic={pattern: {"bits": 8}})

    with pytest.raises(UserError, match="selects modules by the pattern"):
        to("hubq", source.folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bits", "4"),
        ("bits", True),
        ("group_size", 32.0),
        ("sym", "yes"),
        ("dynamic", [1]),
        ("checkpoint_format", {}),
    ],
)
def test_a_setting_of_another_type_is_refused(
    base: Path, tmp_path: Path, key: str, value: object
) -> None:
    source = gptq(base, tmp_path / "old", **{key: value})

    with pytest.raises(UserError, match=f"says {key}: .* belongs: correct it"):
        QuantizedFolder(source.folder)


def test_awq_of_any_zeros_still_reads(base: Path, tmp_path: Path) -> None:
    drawing = Drawing(least_zero=0)
    source = strangers.write(base, tmp_path / "old", drawing, strangers.awq, awq_config(drawing))

    assert torch.equal(logits(to("dense", source.folder)), logits(source.dense(tmp_path / "d")))
