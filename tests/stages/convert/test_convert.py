import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import strangers
import torch
from click.testing import CliRunner
from hubq_folder import write as write_hubq
from quantized_folder import Choice
from quantized_folder import write as write_ours
from safetensors.torch import load_file, save_file
from strangers import Drawing, Stranger, awq_config, gptq_config
from torch import Tensor

from hubq.cli import cli
from hubq.client.client import Client
from hubq.client.pull import pull
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.formats.foreign.folder import QuantizedFolder
from hubq.stages.convert.conversion import TARGETS, Conversion, ConversionRequest
from hubq.stages.convert.convert import convert
from hubq.stages.evaluate.inference.loading import load
from hubq.tensors import Affine, Binary, Grid, QuantizedTensor, Rotated

Base = Callable[[str], Path]
COMPRESSED_TENSORS = format_named("compressed-tensors")
GRID = Grid(4, 32, symmetric=True)


@pytest.fixture
def base(tiny_model: Base) -> Path:
    return tiny_model("llama")


def gptq(base: Path, folder: Path, drawing: Drawing, **changes: object) -> Stranger:
    """Write a gptq folder of somebody's; `changes` go into its quantization_config."""
    config = gptq_config(drawing, **changes)
    version = str(config.get("checkpoint_format", "gptq"))
    pack = lambda drawn: strangers.gptq(drawn, version)  # noqa: E731 - one expression
    return strangers.write(base, folder, drawing, pack, config)


def awq(base: Path, folder: Path) -> Stranger:
    drawing = Drawing(least_zero=0)
    return strangers.write(base, folder, drawing, strangers.awq, awq_config(drawing))


def to(form: str, source: Path, *, lossy: bool = False) -> tuple[Path, Conversion]:
    """Convert a folder; return the new one, beside it, and the record."""
    out = source.with_name(f"{source.name}-{form}")
    return out, convert(source, out, ConversionRequest(form, source.name, lossy=lossy))


def logits(folder: Path) -> Tensor:
    model = load(folder, device="cpu", dtype="bfloat16").model
    with torch.inference_mode():
        found: Tensor = model(torch.arange(40).reshape(2, 20)).logits
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    """Return what each quantized module of a folder dequantizes to."""
    found = QuantizedFolder(folder)
    return {module: found.read(module).dequantize() for module in found.modules}


def same(folder: Path, stranger: Stranger) -> bool:
    """Tell whether a folder holds just the numbers that were drawn."""
    found = weights(folder)
    return found.keys() == stranger.drawn.keys() and all(
        torch.equal(found[module].double(), drawn.weight())
        for module, drawn in stranger.drawn.items()
    )


def bytes_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def refused(model: Path, form: str) -> str:
    with pytest.raises(UserError) as caught:
        to(form, model)
    return str(caught.value)


# What strangers wrote is read as it was meant.


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_asymmetric_gptq_in_activation_order_keeps_its_integers_in_hubq(
    base: Path, tmp_path: Path, bits: int, version: str
) -> None:
    drawing = Drawing(bits, ordered=False)
    source = gptq(base, tmp_path / "old", drawing, checkpoint_format=version)

    out, done = to("hubq", source.folder)

    assert same(out, source)
    assert done.changed == ()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_keeps_its_integers_in_compressed_tensors(
    base: Path, tmp_path: Path, bits: int, symmetric: bool
) -> None:
    source = gptq(base, tmp_path / "old", Drawing(bits, symmetric=symmetric))

    out, done = to("compressed-tensors", source.folder)

    assert same(out, source)
    assert done.changed == ()


def test_asymmetric_gptq_of_4_bits_keeps_its_integers_in_awq(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())

    out, _ = to("awq", source.folder)

    assert same(out, source)


def test_symmetric_gptq_gets_its_zeros_written_out_in_awq(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing(symmetric=True))

    out, _ = to("awq", source.folder)

    assert same(out, source)


def test_awq_whose_zeros_are_all_in_the_middle_fits_into_gptq(base: Path, tmp_path: Path) -> None:
    drawing = Drawing(symmetric=True)
    source = strangers.write(base, tmp_path / "old", drawing, strangers.awq, awq_config(drawing))

    out, _ = to("gptq", source.folder)

    assert same(out, source)


def test_a_zero_of_0_that_version_1_wrapped_around_is_read_as_0(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing(least_zero=0))

    out, done = to("compressed-tensors", source.folder)

    wrapped = sum(int((drawn.zeros == 0).sum()) for drawn in source.drawn.values())
    assert same(out, source)
    assert any(f"{wrapped} zeros of 0 were stored as -1" in fact for fact in done.facts)


def test_activation_order_of_whole_rows_is_no_order(base: Path, tmp_path: Path) -> None:
    drawing = Drawing(group_size=64, symmetric=True)
    source = gptq(base, tmp_path / "old", drawing, group_size=64, desc_act=True)

    out, _ = to("compressed-tensors", source.folder)

    assert same(out, source)


def test_a_config_of_gptqmodel_that_sets_some_modules_apart_is_followed(
    base: Path, tmp_path: Path
) -> None:
    dynamic = {"-:.*lm_head": {}, r"+:.*": {"bits": 8, "group_size": 32}}
    source = gptq(base, tmp_path / "old", Drawing(8), bits=4, dynamic=dynamic)

    out, _ = to("compressed-tensors", source.folder)

    assert same(out, source)


def test_gptq_whose_config_lies_beside_is_read(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    path = source.folder / "config.json"
    config = json.loads(path.read_text())
    said = config.pop("quantization_config")
    del said["quant_method"], said["checkpoint_format"]
    path.write_text(json.dumps(config))
    (source.folder / "quantize_config.json").write_text(json.dumps(said))

    out, _ = to("compressed-tensors", source.folder)

    assert same(out, source)


def test_awq_with_the_first_names_of_its_options_is_read(base: Path, tmp_path: Path) -> None:
    source = awq(base, tmp_path / "old")
    path = source.folder / "config.json"
    config = json.loads(path.read_text())
    del config["quantization_config"]
    path.write_text(json.dumps(config))
    first = {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}
    (source.folder / "quant_config.json").write_text(json.dumps(first))

    out, _ = to("compressed-tensors", source.folder)

    assert same(out, source)


# compressed-tensors as the library writes it.

PACKED = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 32}


def by_the_library(
    base: Path, folder: Path, schemes: dict[str, dict[str, Any]], ignore: list[str]
) -> Path:
    """Compress all linears of a model with compressed-tensors; `schemes` maps targets."""
    import re

    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    tensors, written = load_file(base / "model.safetensors"), {}
    made = {
        target: QuantizationScheme(
            targets=[target],
            weights=QuantizationArgs(**said["weights"]),
            input_activations=said.get("input_activations"),
        )
        for target, said in schemes.items()
    }
    for name, weight in tensors.items():
        module = name.removesuffix(".weight")
        target = next((t for t in made if re.match(t.removeprefix("re:"), module)), "Linear")
        if weight.ndim != 2 or "embed" in name or module in ignore or target not in made:
            written[name] = weight
            continue
        arguments = made[target].weights
        grouped = weight.reshape(len(weight), -1, arguments.group_size or weight.shape[1])
        scale, zero = calculate_qparams(grouped.amin(2), grouped.amax(2), arguments)
        state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
        layout = schemes[target].get("format", "pack-quantized")
        compressor = BaseCompressor.get_value_from_registry(layout)
        packed = compressor.compress(state, made[target])
        written |= {f"{module}.{part}": each for part, each in packed.items()}
    folder.mkdir()
    save_file({n: t.contiguous() for n, t in written.items()}, folder / "model.safetensors")
    config = json.loads((base / "config.json").read_text())
    groups = {
        f"group_{number}": {"targets": [target], **said}
        for number, (target, said) in enumerate(schemes.items())
    }
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignore,
        "sparsity_config": {},
        "transform_config": {},
        "kv_cache_scheme": None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_asymmetric_files_of_the_library_keep_their_logits_in_hubq_and_back(
    base: Path, tmp_path: Path
) -> None:
    source = by_the_library(base, tmp_path / "old", {"Linear": {"weights": PACKED}}, ["lm_head"])

    there, _ = to("hubq", source)
    back, _ = to("compressed-tensors", there)

    assert torch.equal(logits(there), logits(back))
    old, new = bytes_of(source), bytes_of(back)
    assert all(torch.equal(old[name], new[name]) for name in old.keys() | new.keys())


def test_config_groups_with_patterns_keep_each_its_own_scheme(base: Path, tmp_path: Path) -> None:
    schemes = {
        "re:.*down_proj$": {"weights": PACKED | {"num_bits": 8, "symmetric": True}},
        "Linear": {"weights": PACKED | {"symmetric": True}},
    }
    source = by_the_library(base, tmp_path / "old", schemes, ["lm_head"])

    out, done = to("hubq", source)

    assert done.changed == ()
    assert torch.equal(logits(out), logits(source))


def test_a_quantized_head_stays_quantized(base: Path, tmp_path: Path) -> None:
    symmetric = {"Linear": {"weights": PACKED | {"symmetric": True}}}
    source = by_the_library(base, tmp_path / "old", symmetric, [])

    out, _ = to("compressed-tensors", source)

    assert "lm_head.weight_packed" in bytes_of(out)
    assert torch.equal(logits(out), logits(source))


def test_a_linear_that_was_ignored_stays_so(base: Path, tmp_path: Path) -> None:
    left = ["lm_head", "model.layers.1.mlp.down_proj"]
    symmetric = {"Linear": {"weights": PACKED | {"symmetric": True}}}
    source = by_the_library(base, tmp_path / "old", symmetric, left)

    out, _ = to("compressed-tensors", source)

    assert torch.equal(logits(out), logits(source))


INTEGERS = {
    "format": "int-quantized",
    "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
    "input_activations": {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "token",
        "dynamic": True,
    },
}


@pytest.mark.parametrize("form", ["gptq", "dense"])
def test_rounded_inputs_are_not_lost_without_a_word(base: Path, tmp_path: Path, form: str) -> None:
    source = by_the_library(base, tmp_path / "old", {"Linear": INTEGERS}, ["lm_head"])

    assert "activations" in refused(source, form)


def test_integers_with_rounded_inputs_keep_their_weights_where_that_is_allowed(
    base: Path, tmp_path: Path
) -> None:
    source = by_the_library(base, tmp_path / "old", {"Linear": INTEGERS}, ["lm_head"])

    out, done = to("hubq", source, lossy=True)

    assert done.changed == ()
    assert any("round the inputs" in fact for fact in done.facts)
    old, new = weights(source), weights(out)
    assert all(torch.equal(old[module], new[module]) for module in old)


def test_the_layout_of_3_bits_before_version_0_18_is_read(base: Path, tmp_path: Path) -> None:
    scheme = {"weights": PACKED | {"num_bits": 3, "symmetric": True}}
    source = by_the_library(base, tmp_path / "old", {"Linear": scheme}, ["lm_head"])
    expected = weights(source)
    tensors = bytes_of(source)
    for name, packed in tensors.items():
        if name.endswith("weight_packed"):
            codes = strangers_codes(packed, 3, int(tensors[name.replace("packed", "shape")][1]))
            tensors[name] = ten_to_a_word(codes)
    save_file(tensors, source / "model.safetensors")

    out, _ = to("compressed-tensors", source)

    found = weights(out)
    assert all(torch.equal(found[module], expected[module]) for module in expected)


def strangers_codes(packed: Tensor, bits: int, count: int) -> Tensor:
    """Read a dense stream bit by bit."""
    lifted = (packed[:, :, None].long() >> torch.arange(32)) & 1
    single = lifted.flatten(1)[:, : count * bits].reshape(len(packed), count, bits)
    return (single << torch.arange(bits)).sum(2)


def ten_to_a_word(codes: Tensor) -> Tensor:
    """Pack 3 bits as the library did before 0.18: ten codes a word, two bits left over."""
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 10)).reshape(len(codes), -1, 10)
    return (padded << (3 * torch.arange(10))).sum(2).to(torch.int32)


def test_the_librarys_own_index_of_groups_is_read(base: Path, tmp_path: Path) -> None:
    drawing = Drawing(symmetric=True, ordered=False)
    source = gptq(base, tmp_path / "gptq", drawing)
    sorted_columns = gptq(base, tmp_path / "sorted", Drawing(symmetric=True))
    folder, _ = to("compressed-tensors", sorted_columns.folder)
    tensors = bytes_of(folder)
    for module, drawn in source.drawn.items():
        tensors[f"{module}.weight_packed"] = strangers.words(drawn.codes, 4)
        tensors[f"{module}.weight_scale"] = drawn.scales.half()
        tensors[f"{module}.weight_g_idx"] = torch.from_numpy(drawn.groups).int()
    save_file(tensors, folder / "model.safetensors")

    out, _ = to("hubq", folder)

    assert same(out, source)


# What plain transformers computes with the result.


def test_rescued_asymmetric_gptq_has_its_logits_in_plain_transformers(
    base: Path, tmp_path: Path
) -> None:
    source = gptq(base, tmp_path / "old", Drawing())

    out, _ = to("compressed-tensors", source.folder)

    assert load(out, device="cpu", dtype="bfloat16").loader == "transformers"
    assert torch.equal(logits(out), logits(source.dense(tmp_path / "dense")))


@pytest.mark.parametrize("form", ["hubq", "dense"])
def test_rescued_activation_order_has_its_logits(base: Path, tmp_path: Path, form: str) -> None:
    source = gptq(base, tmp_path / "old", Drawing(ordered=False))

    out, _ = to(form, source.folder)

    assert torch.equal(logits(out), logits(source.dense(tmp_path / "dense")))


def test_hubqs_own_reader_of_gptq_reads_activation_order_too(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing(ordered=False))

    found = logits(source.folder)

    assert torch.equal(found, logits(source.dense(tmp_path / "dense")))


def test_biases_and_tied_embeddings_are_kept(tiny_model: Base, tmp_path: Path) -> None:
    source = gptq(tiny_model("qwen2"), tmp_path / "old", Drawing())  # tied, with biases

    out, _ = to("compressed-tensors", source.folder)

    assert torch.equal(logits(out), logits(source.dense(tmp_path / "dense")))


# There and back.


def test_gptq_comes_back_from_compressed_tensors_byte_for_byte(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing(symmetric=True))

    there, _ = to("compressed-tensors", source.folder)
    back, _ = to("gptq", there)

    old, new = bytes_of(source.folder), bytes_of(back)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_awq_comes_back_from_compressed_tensors_byte_for_byte(base: Path, tmp_path: Path) -> None:
    source = awq(base, tmp_path / "old")

    there, _ = to("compressed-tensors", source.folder)
    back, _ = to("awq", there)

    old, new = bytes_of(source.folder), bytes_of(back)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_compressed_tensors_comes_back_from_hubq_byte_for_byte(base: Path, tmp_path: Path) -> None:
    write_ours(base, tmp_path / "old", Choice(COMPRESSED_TENSORS, GRID))

    there, _ = to("hubq", tmp_path / "old")
    back, _ = to("compressed-tensors", there)

    old, new = (tmp_path / "old/model.safetensors", back / "model.safetensors")
    assert load_file(old).keys() == load_file(new).keys()
    assert all(torch.equal(each, load_file(new)[name]) for name, each in load_file(old).items())


# What a format can't hold.


@pytest.mark.parametrize("form", ["compressed-tensors", "awq", "gptq"])
def test_activation_order_is_refused_where_nobody_reads_it(
    base: Path, tmp_path: Path, form: str
) -> None:
    source = gptq(base, tmp_path / "old", Drawing(ordered=False))

    said = refused(source.folder, form)

    assert "activation order" in said
    assert "hubq and dense hold them" in said
    assert "--lossy" in said
    assert not (tmp_path / f"old-{form}").exists()


def test_a_loss_that_is_allowed_is_measured(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing(ordered=False))

    out, done = to("compressed-tensors", source.folder, lossy=True)

    new = weights(out)
    for module in done.changed:
        old = source.drawn[module.name].weight()
        expected = float((new[module.name].double() - old).norm() / old.norm())
        assert module.difference == pytest.approx(expected, rel=1e-3)
    assert 0 < done.changed[0].difference < 0.01


def test_a_lossy_copy_loads_in_plain_transformers(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing(ordered=False))

    out, _ = to("compressed-tensors", source.folder, lossy=True)

    exact = logits(source.dense(tmp_path / "dense")).float()
    assert float((logits(out).float() - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize(("form", "bits"), [("awq", 3), ("gptq", 4)])
def test_a_format_of_one_scheme_rounds_all_modules_to_one(
    base: Path, tmp_path: Path, form: str, bits: int
) -> None:
    source = gptq(base, tmp_path / "old", Drawing(bits))

    out, done = to(form, source.folder, lossy=True)

    assert {module.done for module in done.modules} == {
        f"rounded anew to {4 if form == 'awq' else 8} bits"
    }
    assert logits(out).isfinite().all()


def test_a_quantized_head_is_written_out_where_the_format_has_none(
    base: Path, tmp_path: Path
) -> None:
    write_ours(base, tmp_path / "old", Choice(COMPRESSED_TENSORS, GRID, head=GRID))

    said = refused(tmp_path / "old", "gptq")
    out, done = to("gptq", tmp_path / "old", lossy=True)

    assert "gptq keeps lm_head in 16 bits" in said
    assert [(module.name, module.done) for module in done.changed] == [
        ("lm_head", "written out in bfloat16")
    ]
    assert torch.equal(logits(out), logits(tmp_path / "old"))


@pytest.mark.parametrize("kind", [Binary, Rotated])
def test_weights_that_are_not_affine_go_to_dense_or_stay(
    base: Path, tmp_path: Path, kind: type[QuantizedTensor]
) -> None:
    twin = write_hubq(base, tmp_path / "old", lambda *each: of_kind(kind, *each))

    out, _ = to("dense", tmp_path / "old")

    assert f"{kind.__name__} weights" in refused(tmp_path / "old", "compressed-tensors")
    assert torch.equal(logits(out), logits(twin))


def of_kind(kind: type[QuantizedTensor], module: str, weight: Tensor) -> QuantizedTensor | None:
    """Quantize a linear in the simplest way of a kind."""
    if not module.endswith("_proj"):
        return None
    if kind is Rotated:
        ones = torch.ones(weight.shape[1]).bfloat16()
        return Rotated(Affine.fit(weight, GRID), ones, seed=1)
    scale = weight.abs().mean(1, keepdim=True).bfloat16()
    return Binary((weight > 0)[None], (scale,), None, group_size=weight.shape[1])


def test_hubqs_own_order_of_columns_is_rounded_anew_where_that_is_allowed(
    base: Path, tmp_path: Path
) -> None:
    source = gptq(base, tmp_path / "old", Drawing(ordered=False))
    there, _ = to("hubq", source.folder)

    _, done = to("compressed-tensors", there, lossy=True)

    assert {module.done for module in done.modules} == {"rounded anew to 8 bits"}
    assert done.changed[0].difference < 0.01


def test_a_loss_is_not_taken_where_none_is_needed(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())

    _, done = to("compressed-tensors", source.folder, lossy=True)

    assert done.changed == ()


def test_scales_that_float16_does_not_reach_are_refused_for_gptq(
    base: Path, tmp_path: Path
) -> None:
    write_ours(base, tmp_path / "old", Choice(COMPRESSED_TENSORS, GRID))
    tensors = bytes_of(tmp_path / "old")
    tensors["model.layers.0.mlp.up_proj.weight_scale"][0, 0] = 1e-9
    save_file(tensors, tmp_path / "old/model.safetensors")

    assert "too small or too large for float16" in refused(tmp_path / "old", "gptq")


def test_a_dense_copy_is_marked(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())

    out, done = to("dense", source.folder)

    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["hubq_dequantized_from"] == {"model": "old", "quant_method": "gptq"}
    assert "written out in 16 bits" in (out / "README.md").read_text()
    assert done.changed[0].difference < 2**-8


def test_a_model_that_is_not_quantized_is_refused_with_the_way_out(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"is not quantized.*\n.*hubq quantize RECIPE"):
        convert(base, tmp_path / "out", ConversionRequest("gptq", "base"))


# Metadata that is missing or contradicts the tensors.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bits": 8}, "says bits: 8, but .* as files of 4 bits have"),
        ({"bits": 5}, "says bits: 5; gptq files have 2, 3, 4 or 8"),
        ({"bits": None}, "says bits: None"),
        ({"group_size": None}, "says group_size: None; set it to the number of inputs"),
        ({"group_size": 64}, "says group_size: 64, but .* has 4 groups in scales"),
        ({"sym": True}, "says sym: true .* zeros that are not 8"),
        ({"checkpoint_format": "marlin"}, "hubq reads gptq and gptq_v2"),
        ({"format": "gptq_v2"}, "two versions of the format, gptq and gptq_v2"),
        ({"quant_method": "eetq"}, "quantized by eetq; hubq converts awq, compressed-tensors"),
        ({"quant_method": "awq", "version": "gemv"}, "says version: gemv; hubq reads gemm"),
        ({"quant_method": "compressed-tensors"}, "holds no compressed-tensors tensors"),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_refused(
    base: Path, tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    source.edit_config(**changes)

    with pytest.raises(UserError, match=complaint):
        to("hubq", source.folder)


def scattered(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.down_proj.g_idx"] = torch.arange(128).int() % 4


def beyond(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.down_proj.g_idx"][5] = 99


def uneven(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.down_proj.g_idx"][5] = 3


def without_scales(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.down_proj.scales"]


def without_a_module(tensors: dict[str, Tensor]) -> None:
    for part in ("qweight", "qzeros", "scales", "g_idx"):
        del tensors[f"model.layers.1.mlp.down_proj.{part}"]


def with_infinite_scales(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.down_proj.scales"][0, 0] = torch.inf


def with_another_part(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.down_proj.perm"] = torch.arange(128)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (scattered, "says desc_act: false, but .* in a different order"),
        (beyond, "has a group 99 in its index, of 0 to 3"),
        (uneven, "has 31 columns in group 0 of its index"),
        (without_scales, "has no tensor scales"),
        (without_a_module, "no weights of model.layers.1.mlp.down_proj"),
        (with_infinite_scales, "hold NaN or inf"),
        (with_another_part, "has a tensor model.layers.1.mlp.down_proj.perm"),
    ],
)
def test_tensors_that_cannot_be_are_refused(
    base: Path, tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], complaint: str
) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    source.edit_tensors(damage)

    with pytest.raises(UserError, match=complaint):
        to("hubq", source.folder)


def test_two_configs_that_disagree_are_refused(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    (source.folder / "quantize_config.json").write_text('{"bits": 4, "group_size": 128}')

    said = refused(source.folder, "hubq")

    assert "config.json says group_size: 32, but quantize_config.json says 128" in said


def test_pickled_weights_are_refused(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    (source.folder / "model.safetensors").rename(source.folder / "pytorch_model.bin")

    assert "only pickled weights" in refused(source.folder, "hubq")


def test_a_missing_shard_is_refused(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (source.folder / "model.safetensors.index.json").write_text(json.dumps(index))

    (source.folder / "model.safetensors").unlink()  # which would come before an index

    assert "lacks model-00002-of-00002.safetensors" in refused(source.folder, "hubq")


def test_transforms_that_hubq_does_not_know_are_refused(base: Path, tmp_path: Path) -> None:
    source = by_the_library(base, tmp_path / "old", {"Linear": {"weights": PACKED}}, ["lm_head"])
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"]["transform_config"] = {
        "config_groups": {"v": {"type": "hadamard"}}
    }
    (source / "config.json").write_text(json.dumps(config))

    assert "has a transform_config" in refused(source, "hubq")


def test_biases_of_zeros_that_the_architecture_has_not_are_left_out(
    base: Path, tmp_path: Path
) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    source.edit_tensors(
        lambda tensors: tensors.update({f"{name}.bias": torch.zeros(64) for name in source.drawn})
    )

    out, done = to("compressed-tensors", source.folder)

    assert not any(name.endswith(".bias") for name in bytes_of(out))
    assert "14 biases that were all zero were left out." in done.facts


# The folder: complete, honest, in one step.


def test_tokenizer_and_license_come_along(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    (source.folder / "LICENSE").write_text("Do as you like.")

    out, _ = to("hubq", source.folder)

    assert (out / "LICENSE").read_text() == "Do as you like."
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (source.folder / name).read_bytes()


CARD = """---
license: apache-2.0
base_model: acme/Tiny
tags: [gptq, llama]
model-index: [{name: Tiny, results: []}]
---
# Tiny-GPTQ
Perplexity 5.68 on WikiText2.
"""


def test_the_card_says_whose_figures_it_quotes(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "Tiny-GPTQ", Drawing())
    (source.folder / "README.md").write_text(CARD)

    out, _ = to("compressed-tensors", source.folder)

    head, told = (out / "README.md").read_text().split("---\n", 2)[1:]
    assert "model-index" not in head
    assert "license: apache-2.0" in head
    assert "- compressed-tensors" in head
    note, theirs = told.split("## The card of the source")
    assert "All 14 quantized modules have the integers, scales and zeros of the source" in note
    assert "Its figures were measured there" in theirs
    assert theirs.rstrip().endswith("Perplexity 5.68 on WikiText2.")


def test_a_second_time_overwrites_nothing(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    to("hubq", source.folder)

    assert "already exists; replace it with --fresh" in refused(source.folder, "hubq")


@pytest.mark.parametrize("form", TARGETS)
def test_fresh_replaces_an_earlier_conversion(base: Path, tmp_path: Path, form: str) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    out, _ = to(form, source.folder, lossy=True)
    before = (out / "model.safetensors").stat().st_mtime_ns

    convert(source.folder, out, ConversionRequest(form, "old", lossy=True, fresh=True))

    assert (out / "model.safetensors").stat().st_mtime_ns > before


@pytest.mark.parametrize("name", ["old-hubq", "old-hubq.partial"])
def test_what_no_conversion_wrote_is_never_replaced(base: Path, tmp_path: Path, name: str) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    out, _ = to("hubq", source.folder)
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "thesis.txt").write_text("years of work")

    with pytest.raises(UserError, match=r"holds files that no conversion wrote \(thesis.txt\)"):
        convert(source.folder, out, ConversionRequest("hubq", "old", fresh=True))

    assert (tmp_path / name / "thesis.txt").exists()


def test_a_folder_that_no_conversion_made_is_never_replaced(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    (tmp_path / "mine").mkdir()

    with pytest.raises(UserError, match="exists and hubq did not make it"):
        convert(source.folder, tmp_path / "mine", ConversionRequest("hubq", "old", fresh=True))


def test_the_source_is_never_replaced(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())

    with pytest.raises(UserError, match="contains the other"):
        convert(source.folder, source.folder, ConversionRequest("hubq", "old", fresh=True))


def test_what_a_killed_run_left_is_begun_anew(base: Path, tmp_path: Path) -> None:
    source = gptq(base, tmp_path / "old", Drawing())
    whole, _ = to("hubq", source.folder)
    expected = (whole / "model.safetensors").read_bytes()
    whole.rename(tmp_path / "whole")
    left = tmp_path / "old-hubq.partial/parts"
    left.mkdir(parents=True)
    (left / "000000.safetensors").write_bytes(b"half")

    out, _ = to("hubq", source.folder)

    assert (out / "model.safetensors").read_bytes() == expected
    assert not left.parent.exists()


# The command.


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from hubq.embedded_hub import local_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    before = os.environ.get("HF_ENDPOINT")
    with local_hub(tmp_path / "hub", org="acme") as running:
        yield running
    os.environ["HF_ENDPOINT"] = before or ""


def test_the_command_writes_beside_a_folder_and_says_what_is_proven(
    base: Path, tmp_path: Path
) -> None:
    source = gptq(base, tmp_path / "old", Drawing())

    done = CliRunner().invoke(cli, ["convert", str(source.folder), "--to", "compressed-tensors"])

    assert done.exit_code == 0, done.output
    assert str(tmp_path / "old-compressed-tensors") in done.stdout
    assert "All 14 quantized modules have the integers" in done.stdout


def test_the_command_refuses_what_is_neither_a_folder_nor_a_repo() -> None:
    done = CliRunner().invoke(cli, ["convert", "./nothing", "--to", "hubq"])

    assert done.exit_code == 1
    assert "there is no folder ./nothing; name one, or a repo as org/name" in done.stderr


def test_a_repo_is_fetched_and_converted(
    base: Path, tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    source = gptq(base, tmp_path / "old", Drawing())
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    api.create_repo("acme/Tiny-GPTQ", private=False)
    api.upload_folder(repo_id="acme/Tiny-GPTQ", folder_path=source.folder)
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(
        cli, ["convert", "acme/Tiny-GPTQ", "--to", "compressed-tensors", "--hub", hub.endpoint]
    )

    assert done.exit_code == 0, done.output
    out = tmp_path / "Tiny-GPTQ-compressed-tensors"
    assert same(out, source)
    assert "base_model: acme/Tiny-GPTQ" in (out / "README.md").read_text()


def test_a_converted_folder_is_a_repo_that_can_be_pulled(
    base: Path, tmp_path: Path, hub: Any
) -> None:
    from huggingface_hub import HfApi

    source = gptq(base, tmp_path / "old", Drawing(ordered=False))
    out, _ = to("hubq", source.folder)
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    api.create_repo("acme/Tiny-hubq")
    api.upload_folder(repo_id="acme/Tiny-hubq", folder_path=out)

    place = pull("acme/Tiny-hubq", None, Client(hub.endpoint, hub.token))

    assert same(place, source)
