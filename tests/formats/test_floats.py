"""FP8, NVFP4 and MXFP4: what compressed-tensors' own code reads in our files, and computes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from quantized_folder import GREATEST_INPUT, Choice, write
from tiny_models import save_tiny_model
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.methods import Group, Inputs, Layer, Method, method_class
from hubq.stages.evaluate.inference.loading import load
from hubq.tensors import Floating

FORM = format_named("compressed-tensors")
MODULE = "model.layers.0.mlp.up_proj"
CASES: dict[str, dict[str, Any]] = {
    "FP8_DYNAMIC": {"name": "fp8"},
    "FP8_BLOCK": {"name": "fp8", "scales": "block"},
    "FP8 static": {"name": "fp8", "activations": "static"},
    "FP8 weights": {"name": "fp8", "activations": "none"},
    "NVFP4A16": {"name": "nvfp4"},
    "NVFP4": {"name": "nvfp4", "activations": 4},
    "MXFP4A16": {"name": "mxfp4"},
    "MXFP4": {"name": "mxfp4", "activations": 4},
}
SIXTEEN_BIT_INPUTS = ("FP8 weights", "NVFP4A16", "MXFP4A16")


def method(case: str, **options: object) -> Method:
    values = {**CASES[case], **options}
    return method_class(values.pop("name")).model_validate(values)


def weight(rows: int = 192, columns: int = 256) -> Tensor:
    """Return weights of many sizes, as bfloat16 holds them, with groups of zeros among them."""
    random = torch.Generator().manual_seed(0)
    found = torch.randn(rows, columns, generator=random)
    found *= torch.logspace(-4, 0, rows)[:, None]
    found[3] = 0
    found[:, 32:64] = 0
    return found.bfloat16().float()


def floats(case: str, given: Tensor | None = None, **options: object) -> Floating:
    given = weight() if given is None else given
    inputs = Inputs(1, max_magnitude=torch.full((given.shape[1],), GREATEST_INPUT))
    found = method(case, **options).quantize(Layer(MODULE, given, inputs))
    assert isinstance(found, Floating)
    return found


def same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and torch.equal(one, other)


def library_scheme(tensor: Floating) -> Any:
    from compressed_tensors.quantization import QuantizationConfig

    config = QuantizationConfig.model_validate(FORM.config({MODULE: tensor}, []))
    return config.config_groups["group_0"]


def decompressed(tensor: Floating) -> Tensor:
    """Let compressed-tensors read what we packed."""
    from compressed_tensors.compressors import BaseCompressor

    scheme = library_scheme(tensor)
    packed = {
        name.removeprefix(f"{MODULE}."): each for name, each in FORM.pack(MODULE, tensor).items()
    }
    reader = BaseCompressor.get_value_from_registry(scheme.format)
    found: Tensor = reader.decompress(packed, scheme)["weight"]
    return found


@pytest.mark.parametrize("solver", ["rtn", "gptq"])
@pytest.mark.parametrize("case", CASES)
def test_the_library_unpacks_the_very_weights_that_we_say(case: str, solver: str) -> None:
    given = weight()
    inputs = torch.randn(400, 256, generator=torch.Generator().manual_seed(1))
    statistics = Inputs(400, inputs.T @ inputs, max_magnitude=inputs.abs().amax(0))
    made = method(case, solver=solver).quantize(Layer(MODULE, given, statistics))

    assert isinstance(made, Floating)
    found = decompressed(made)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, made.dequantize(torch.bfloat16))


@pytest.mark.parametrize("case", ["NVFP4A16", "MXFP4A16", "FP8 weights"])
def test_the_library_rounds_to_the_same_elements_under_our_scales(case: str) -> None:
    from compressed_tensors.quantization.lifecycle.forward import quantize

    tensor = floats(case)

    scale = tensor.steps()
    theirs = quantize(weight(), scale, None, library_scheme(tensor).weights)
    ours = tensor.dequantize() / scale.repeat_interleave(tensor.block[1], 1)
    assert torch.allclose(theirs, ours, atol=1e-5, rtol=1e-6)


def test_scales_without_a_search_are_the_librarys() -> None:
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    given = weight()
    for case, width in (("NVFP4A16", 16), ("MXFP4A16", 32)):
        tensor = floats(case, given, search=False)
        least, most = given.view(len(given), -1, width).aminmax(dim=2)
        shared = None if tensor.divisor is None else generate_gparam(given.min(), given.max())

        args = library_scheme(tensor).weights
        theirs, _ = calculate_qparams(least, most, args, global_scale=shared)

        filled = most - least > 0
        ours = tensor.steps() if shared is None else tensor.scale.float()
        assert torch.equal(ours[filled], theirs.float()[filled])
        assert shared is None or same(tensor.divisor, shared)


@pytest.mark.parametrize("case", CASES)
def test_what_is_unpacked_is_what_was_packed(case: str) -> None:
    tensor = floats(case)
    config = json.loads(json.dumps(FORM.config({MODULE: tensor}, [])))

    back = FORM.unpack(MODULE, FORM.pack(MODULE, tensor), config)

    assert isinstance(back, Floating)
    assert back.rounds_inputs == tensor.rounds_inputs
    for part in ("codes", "scale", "divisor", "input_scale"):
        ours, theirs = getattr(tensor, part), getattr(back, part)
        assert ours is theirs is None or torch.equal(
            ours.view(torch.uint8), theirs.view(torch.uint8)
        )


@pytest.mark.parametrize("case", CASES)
def test_a_file_holds_just_the_stored_bits_and_a_plan_knows_them(case: str) -> None:
    tensor = floats(case)

    size = sum(each.nbytes for each in FORM.pack(MODULE, tensor).values())

    assert 8 * size == pytest.approx(tensor.stored_bits() * tensor.codes.numel())
    sketch = method(case).sketch((192, 256), torch.bfloat16)
    assert sketch.stored_bits() == tensor.stored_bits()
    packed = FORM.pack(MODULE, sketch)
    assert sum(each.nbytes for each in packed.values()) == size


@pytest.mark.parametrize("case", [name for name in CASES if " " not in name])
def test_a_config_group_is_the_librarys_preset(case: str) -> None:
    from compressed_tensors.quantization import preset_name_to_scheme

    ours, theirs = library_scheme(floats(case)), preset_name_to_scheme(case, ["Linear"])

    for part in ("weights", "input_activations"):
        own, preset = getattr(ours, part), getattr(theirs, part)
        assert (own is None) == (preset is None)
        for key in ("num_bits", "type", "strategy", "group_size", "block_structure", "dynamic"):
            assert own is None or getattr(own, key) == getattr(preset, key), key
        assert own is None or own.scale_dtype == preset.scale_dtype


def rounded_input(inputs: Tensor, case: str) -> Tensor:
    """Round the inputs of a linear as engines do, without any code of theirs or of ours."""
    if case == "FP8 static":
        scale = torch.tensor(GREATEST_INPUT / 448).bfloat16().float()
    elif case == "FP8_DYNAMIC":
        scale = inputs.abs().amax(-1, keepdim=True) / 448
    else:
        assert case == "NVFP4"
        divisor = torch.tensor(448 * 6 / GREATEST_INPUT)
        groups = inputs.view(*inputs.shape[:-1], -1, 16)
        stored = (divisor * (groups.abs().amax(-1) / 6)).clamp(max=448).to(torch.float8_e4m3fn)
        scale = stored.float().masked_fill(stored.float() == 0, 0.125) / divisor
        levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
        size = (groups / scale[..., None]).abs()
        near = levels[(size[..., None] - levels).abs().argmin(-1)]
        return (near * groups.sign() * scale[..., None]).flatten(-2)
    rounded: Tensor = (inputs / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
    return rounded


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of matrices of more than one block, which compressed-tensors 0.20 stops at."""
    folder = tmp_path_factory.mktemp("floats") / "base"
    save_tiny_model("llama", folder, hidden_size=256, intermediate_size=384, head_dim=64)
    return folder


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(torch.arange(40).reshape(2, 20)).logits
    return found


@pytest.mark.parametrize("case", ["FP8_BLOCK", "FP8_DYNAMIC", "FP8 static", *SIXTEEN_BIT_INPUTS])
def test_plain_transformers_on_a_cpu_computes_with_the_dequantized_weights(
    case: str, base: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    dense = write(base, tmp_path / "model", Choice(FORM, method(case)))

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    found = logits(model)

    twin = AutoModelForCausalLM.from_pretrained(dense, dtype="auto")
    assert found.dtype == torch.bfloat16
    for name, each in twin.named_parameters():
        assert torch.equal(model.get_parameter(name), each), name
    assert torch.equal(found, logits(twin)) == (case in SIXTEEN_BIT_INPUTS)


@pytest.mark.parametrize("case", ["FP8_DYNAMIC", "FP8 static", "NVFP4"])
def test_the_loader_of_evaluations_rounds_inputs_as_the_config_says(
    case: str, base: Path, tmp_path: Path
) -> None:
    write(base, tmp_path / "model", Choice(FORM, method(case)))

    model, loader = load(tmp_path / "model", device="cpu", dtype="float32")

    assert loader == "transformers"
    linear = model.get_submodule(MODULE)
    inputs = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(2))
    expected = rounded_input(inputs, case) @ linear.weight.T
    assert torch.allclose(linear(inputs), expected, atol=1e-5)
    assert not torch.allclose(inputs @ linear.weight.T, expected, atol=1e-3)


@pytest.mark.parametrize("by_blocks", [False, True])
@pytest.mark.parametrize("case", SIXTEEN_BIT_INPUTS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_evaluations_load_floats_in_other_dtypes_too(
    case: str, dtype: str, by_blocks: bool, base: Path, tmp_path: Path
) -> None:
    dense = write(base, tmp_path / "model", Choice(FORM, method(case)))

    found, _ = load(tmp_path / "model", device="cpu", dtype=dtype, by_blocks=by_blocks)

    twin, _ = load(dense, device="cpu", dtype=dtype)
    ours, theirs = logits(found), logits(twin)
    # FP8 is multiplied out in the dtype that is asked for; the twin was rounded to bfloat16 before.
    if case == "FP8 weights":
        assert torch.allclose(ours, theirs, atol=2e-2)
    else:
        assert torch.equal(ours, theirs)


def test_layers_that_engines_fuse_share_their_global_scale() -> None:
    small, large = weight() / 8, weight()
    layers = tuple(Layer(name, each, Inputs(0)) for name, each in (("q", small), ("k", large)))

    q, k = method("NVFP4A16").quantize_group(Group(layers))
    (alone,) = method("NVFP4A16").quantize_group(Group(layers[:1]))
    (parted,) = method("NVFP4A16").quantize_group(Group(layers[:1], others=layers[1:]))

    assert isinstance(q, Floating)
    assert isinstance(k, Floating)
    assert isinstance(alone, Floating)
    assert isinstance(parted, Floating)
    assert q.divisor is not None
    assert same(k.divisor, q.divisor)
    assert not same(alone.divisor, q.divisor)
    assert same(parted.divisor, q.divisor)
    assert torch.equal(q.scale.view(torch.uint8), parted.scale.view(torch.uint8))


@pytest.mark.parametrize("case", ["NVFP4A16", "MXFP4A16"])
def test_a_search_of_scales_never_loses(case: str) -> None:
    given = torch.randn(64, 256, generator=torch.Generator().manual_seed(3))

    lost = [
        (floats(case, given, search=search).dequantize() - given).square().sum()
        for search in (False, True)
    ]

    assert lost[1] < lost[0]


@pytest.mark.parametrize("case", ["FP8 weights", "NVFP4A16", "MXFP4A16"])
def test_error_feedback_loses_less_of_the_output(case: str) -> None:
    random = torch.Generator().manual_seed(4)
    inputs = torch.randn(1000, 64, generator=random) @ torch.randn(64, 256, generator=random)
    inputs += torch.randn(1000, 256, generator=random)
    given = torch.randn(64, 256, generator=random)

    def lost(solver: str) -> float:
        layer = Layer(MODULE, given, Inputs(1000, inputs.T @ inputs))
        error = method(case, solver=solver).quantize(layer).dequantize() - given
        return float((inputs @ error.T).square().sum())

    assert lost("gptq") < 0.7 * lost("rtn")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"weight_global_scale": torch.zeros(1)}, "is not one positive number"),
        ({"weight_scale": torch.full((192, 16), torch.nan).to(torch.float8_e4m3fn)}, "NaN"),
        ({"weight_scale": torch.ones(192, 8).to(torch.float8_e4m3fn)}, r"has scales \(192, 8\)"),
        ({"weight_packed": torch.zeros(192, 128, dtype=torch.int32)}, "is torch.int32, not"),
    ],
)
def test_floats_that_cannot_be_are_refused(change: dict[str, Tensor], complaint: str) -> None:
    tensor = floats("NVFP4A16")
    given = FORM.pack(MODULE, tensor) | {f"{MODULE}.{name}": each for name, each in change.items()}

    with pytest.raises(UserError, match=complaint):
        FORM.unpack(MODULE, given, FORM.config({MODULE: tensor}, []))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"scales": "block", "activations": "static"}, "kernels for activations: dynamic alone"),
        ({"activations": 8}, "Input should be 'dynamic', 'static' or 'none'"),
    ],
)
def test_fp8_that_no_engine_runs_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        method_class("fp8").model_validate(options)


@pytest.mark.parametrize(
    ("case", "columns"), [("FP8_BLOCK", 576), ("NVFP4A16", 200), ("MXFP4", 80)]
)
def test_groups_that_do_not_divide_a_row_are_refused(case: str, columns: int) -> None:
    reason = method(case).why_unsupported((64, columns))

    assert reason is not None
    assert f"do not divide {columns} inputs" in reason
