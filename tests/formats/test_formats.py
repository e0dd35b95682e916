import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from quantized_folder import Choice, write
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import Format, format_named, formats
from hubq.tensors import PER_CHANNEL, Affine, Grid

COMPRESSED_TENSORS = format_named("compressed-tensors")
GPTQ = format_named("gptq")
AWQ = format_named("awq")
MODULE = "model.layers.0.mlp.up_proj"


def affine(
    bits: int = 4,
    group_size: int = 32,
    *,
    symmetric: bool = False,
    shape: tuple[int, int] = (64, 96),
    scale_dtype: torch.dtype = torch.bfloat16,
) -> Affine:
    """Return random codes, zeros and scales: every code and zero that the width has."""
    generator = torch.Generator().manual_seed(bits)
    grid = Grid(bits, group_size, symmetric)
    groups = (shape[0], grid.groups(shape[1]))

    def codes(*size: int) -> Tensor:
        return torch.randint(0, 1 << bits, size, dtype=torch.uint8, generator=generator)

    return Affine(
        codes=codes(*shape),
        scale=(torch.rand(groups, generator=generator) + 0.01).to(scale_dtype),
        zero=None if symmetric else codes(*groups),
        bits=bits,
        group_size=grid.width(shape[1]),
    )


def sketch(tensor: Affine) -> Affine:
    return Affine(
        codes=tensor.codes.to("meta"),
        scale=tensor.scales.to("meta"),
        zero=None if tensor.zero is None else tensor.zero.to("meta"),
        bits=tensor.bits,
        group_size=tensor.group_size,
    )


def round_trip(form: Format, tensor: Affine) -> Affine:
    config = json.loads(json.dumps(form.config({MODULE: tensor}, ["lm_head"])))
    back = form.unpack(MODULE, form.pack(MODULE, tensor), config)
    assert isinstance(back, Affine)
    return back


HELD = [
    *((COMPRESSED_TENSORS, *each) for each in product((2, 3, 4, 8), (False, True))),
    *((GPTQ, bits, True) for bits in (2, 3, 4, 8)),
    (AWQ, 4, False),
]
each_held = pytest.mark.parametrize(
    ("form", "bits", "symmetric"),
    HELD,
    ids=[f"{form.name}-{bits}-{'symmetric' if sym else 'asymmetric'}" for form, bits, sym in HELD],
)


@each_held
@pytest.mark.parametrize(
    ("group_size", "shape"),
    [(32, (64, 96)), (PER_CHANNEL, (64, 96)), (16, (96, 64)), (64, (32, 96)), (32, (8, 32))],
    ids=["groups", "whole rows", "many groups", "a ragged last group", "one group"],
)
def test_what_is_unpacked_is_what_was_packed(
    form: Format, bits: int, symmetric: bool, group_size: int, shape: tuple[int, int]
) -> None:
    tensor = affine(bits, group_size, symmetric=symmetric, shape=shape)

    back = round_trip(form, tensor)

    assert torch.equal(back.codes, tensor.codes)
    assert torch.equal(back.scales.float(), tensor.scales.float())
    assert back.zero is tensor.zero or torch.equal(back.zero, tensor.zero)  # type: ignore[arg-type]
    assert (back.bits, back.group_size) == (tensor.bits, tensor.group_size)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3, 33), (31, 100)])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_compressed_tensors_packs_odd_shapes_exactly(bits: int, shape: tuple[int, int]) -> None:
    tensor = affine(bits, PER_CHANNEL, shape=shape)

    back = round_trip(COMPRESSED_TENSORS, tensor)

    assert torch.equal(back.dequantize(), tensor.dequantize())


@each_held
def test_a_sketch_packs_to_the_shapes_of_the_tensor(
    form: Format, bits: int, symmetric: bool
) -> None:
    tensor = affine(bits, symmetric=symmetric)

    estimated = form.pack(MODULE, sketch(tensor))

    written = form.pack(MODULE, tensor)
    assert {name: (each.shape, each.dtype) for name, each in estimated.items()} == {
        name: (each.shape, each.dtype) for name, each in written.items()
    }


@each_held
def test_packed_tensors_are_contiguous(form: Format, bits: int, symmetric: bool) -> None:
    packed = form.pack(MODULE, affine(bits, symmetric=symmetric))

    assert all(tensor.is_contiguous() for tensor in packed.values())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_compressed_tensors_holds_just_the_stored_bits_and_the_shape(bits: int) -> None:
    tensor = affine(bits)

    packed = COMPRESSED_TENSORS.pack(MODULE, tensor)

    size = sum(each.nbytes for name, each in packed.items() if not name.endswith("_shape"))
    assert 8 * size == tensor.stored_bits() * tensor.codes.numel()


def test_the_same_integers_in_two_formats_dequantize_to_the_same_floats() -> None:
    symmetric, asymmetric = affine(symmetric=True), affine()

    pairs = [
        (round_trip(GPTQ, symmetric), round_trip(COMPRESSED_TENSORS, symmetric)),
        (round_trip(AWQ, asymmetric), round_trip(COMPRESSED_TENSORS, asymmetric)),
    ]

    for one, other in pairs:
        assert torch.equal(one.dequantize(), other.dequantize())


# Independent readers, one loop a weight, straight from the descriptions of the layouts.


def unsigned(word: Tensor) -> int:
    return int(word) & 0xFFFFFFFF


def stream_element(words: Tensor, index: int, bits: int) -> int:
    """Take the bits [index * bits, (index + 1) * bits) of a row of words."""
    value = 0
    for bit in range(bits):
        position = index * bits + bit
        value |= (unsigned(words[position // 32]) >> position % 32 & 1) << bit
    return value


def read_gptq(tensors: Mapping[str, Tensor], bits: int) -> Tensor:
    """W[n, k] = (q - (stored zero + 1)) * scale[g_idx[k], n], qweight packed down the rows."""
    qweight, qzeros, scales, g_idx = (
        tensors[f"{MODULE}.{part}"] for part in ("qweight", "qzeros", "scales", "g_idx")
    )
    weight = torch.empty(scales.shape[1], len(g_idx))
    for n, k in product(range(weight.shape[0]), range(weight.shape[1])):
        group = int(g_idx[k])
        code = stream_element(qweight[:, n], k, bits)
        zero = stream_element(qzeros[group], n, bits) + 1
        weight[n, k] = (code - zero) * float(scales[group, n])
    return weight


def read_awq(tensors: Mapping[str, Tensor], group_size: int) -> Tensor:
    """W[n, k] = (q - zero) * scale; nibble j of a word is its output [0,2,4,6,1,3,5,7][j]."""
    qweight, qzeros, scales = (
        tensors[f"{MODULE}.{part}"] for part in ("qweight", "qzeros", "scales")
    )
    weight = torch.empty(scales.shape[1], qweight.shape[0])
    for k, word, nibble in product(range(weight.shape[1]), range(qweight.shape[1]), range(8)):
        n = 8 * word + (0, 2, 4, 6, 1, 3, 5, 7)[nibble]
        group = k // group_size
        code = unsigned(qweight[k, word]) >> 4 * nibble & 15
        zero = unsigned(qzeros[group, word]) >> 4 * nibble & 15
        weight[n, k] = (code - zero) * float(scales[group, n])
    return weight


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_an_independent_reader_of_gptq_finds_the_weights(bits: int) -> None:
    tensor = affine(bits, 16, symmetric=True, shape=(32, 32))

    packed = GPTQ.pack(MODULE, tensor)

    assert torch.equal(read_gptq(packed, bits), tensor.dequantize())


def test_an_independent_reader_of_awq_finds_the_weights() -> None:
    tensor = affine(4, 16, shape=(24, 32))

    packed = AWQ.pack(MODULE, tensor)

    assert torch.equal(read_awq(packed, 16), tensor.dequantize())


@pytest.mark.parametrize(
    ("bits", "word"), [(2, 0x55555555), (4, 0x77777777), (8, 0x7F7F7F7F)], ids=str
)
def test_gptq_stores_the_zero_less_one(bits: int, word: int) -> None:
    packed = GPTQ.pack(MODULE, affine(bits, symmetric=True))

    assert set(packed[f"{MODULE}.qzeros"].flatten().tolist()) == {word}


def test_gptq_keeps_groups_in_place() -> None:
    packed = GPTQ.pack(MODULE, affine(symmetric=True))

    assert packed[f"{MODULE}.g_idx"].tolist() == [k // 32 for k in range(96)]


# What plain transformers loads, in a process that never saw hubq.

LOAD = """
import json, sys, torch
from transformers import AutoModelForCausalLM
ids = torch.arange(40).reshape(2, 20)
for quantized, dense in json.loads(sys.argv[1]):
    one, other = (
        AutoModelForCausalLM.from_pretrained(folder)(ids).logits for folder in (quantized, dense)
    )
    print("RESULT", json.dumps([quantized, torch.equal(one, other), str(one.dtype)]))
"""
GRIDS = [
    *(("llama", Grid(bits, 32, symmetric)) for bits in (3, 4, 8) for symmetric in (True, False)),
    *(("llama3.2", Grid(4, size, symmetric)) for size in (32, -1) for symmetric in (True, False)),
    ("llama", Grid(2, 64, symmetric=False)),  # q, k and v rows are one group, down rows two
    ("qwen2", Grid(4, 32, symmetric=False)),
    ("qwen3", Grid(4, 32, symmetric=True)),
]
HEADS = [
    (Grid(4, 32, symmetric=True), Grid(8, 32, symmetric=True)),
    (Grid(4, 32, symmetric=True), Grid(4, 32, symmetric=True)),
    (Grid(4, 32, symmetric=False), Grid(4, 32, symmetric=False)),
]
CASES = [(name, Choice(COMPRESSED_TENSORS, grid)) for name, grid in GRIDS] + [
    ("llama", Choice(COMPRESSED_TENSORS, linears, head)) for linears, head in HEADS
]


def case_name(name: str, choice: Choice) -> str:
    grids = [grid for grid in (choice.linears, choice.head) if isinstance(grid, Grid)]
    return "-".join(
        [name, *(f"{g.bits}bit.{g.group_size}.{'sym' if g.symmetric else 'asym'}" for g in grids)]
    )


@pytest.fixture(scope="module")
def loaded(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[object]]:
    """Load every case in one fresh process: importing transformers takes several seconds."""
    root = tmp_path_factory.mktemp("formats")
    pairs = []
    for name, choice in CASES:
        folder = root / case_name(name, choice)
        pairs.append((str(folder), str(write(tiny_model(name), folder, choice))))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(pairs)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = [
        json.loads(line.removeprefix("RESULT "))
        for line in done.stdout.splitlines()
        if line.startswith("RESULT ")
    ]
    return {Path(folder).name: facts for folder, *facts in results}


@pytest.mark.parametrize("case", [case_name(*case) for case in CASES])
def test_plain_transformers_gives_the_logits_of_the_dequantized_model(
    case: str, loaded: dict[str, list[object]]
) -> None:
    assert loaded[case] == [True, "torch.bfloat16"]


# Configs.


def config_of(form: Format, *modules: Affine, kept: tuple[str, ...] = ()) -> dict[str, Any]:
    named = {f"model.layers.{number}.x_proj": each for number, each in enumerate(modules)}
    return form.config(named, kept)


def test_one_scheme_is_one_config_group_of_every_linear() -> None:
    config = config_of(COMPRESSED_TENSORS, affine(symmetric=True), affine(symmetric=True))

    (group,) = config["config_groups"].values()
    assert group["targets"] == ["Linear"]
    assert group["weights"] == {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": 32,
        "dynamic": False,
    }


def test_a_row_of_one_group_joins_those_with_groups_of_its_size() -> None:
    config = config_of(COMPRESSED_TENSORS, affine(), affine(shape=(64, 32)))

    (group,) = config["config_groups"].values()
    assert group["weights"]["group_size"] == 32


def test_whole_rows_have_the_strategy_channel_and_no_group_size() -> None:
    config = config_of(COMPRESSED_TENSORS, affine(group_size=-1))

    weights = config["config_groups"]["group_0"]["weights"]
    assert (weights["strategy"], weights["group_size"]) == ("channel", None)


@pytest.mark.parametrize("group_size", [32, -1])
def test_no_activation_order_is_written(group_size: int) -> None:
    config = config_of(COMPRESSED_TENSORS, affine(group_size=group_size))

    assert "actorder" not in json.dumps(config)


def test_a_second_scheme_is_named_before_every_linear() -> None:
    quantized = {
        "model.layers.0.x_proj": affine(symmetric=True),
        "model.layers.1.x_proj": affine(symmetric=True),
        "lm_head": affine(8, symmetric=True),
    }

    config = COMPRESSED_TENSORS.config(quantized, [])

    targets = [group["targets"] for group in config["config_groups"].values()]
    assert targets == [["lm_head"], ["Linear"]]
    assert config["ignore"] == []


def test_what_stays_unquantized_is_ignored() -> None:
    config = config_of(COMPRESSED_TENSORS, affine(), kept=("model.layers.9.x_proj",))

    assert config["ignore"] == ["lm_head", "model.layers.9.x_proj"]


@pytest.mark.parametrize("symmetric", [True, False])
def test_only_asymmetric_files_ask_transformers_to_dequantize(symmetric: bool) -> None:
    config = config_of(COMPRESSED_TENSORS, affine(symmetric=symmetric))

    assert config.get("dequantize", False) is not symmetric


def test_the_library_reads_our_config_without_a_change_of_meaning() -> None:
    from compressed_tensors.quantization import QuantizationConfig

    config = config_of(COMPRESSED_TENSORS, affine())

    weights = QuantizationConfig.model_validate(config).config_groups["group_0"].weights
    assert (weights.num_bits, weights.group_size) == (4, 32)
    assert weights.symmetric is False


def test_gptq_says_symmetric_and_in_order() -> None:
    config = config_of(GPTQ, affine(3, symmetric=True), kept=("lm_head",))

    assert config == {
        "quant_method": "gptq",
        "bits": 3,
        "group_size": 32,
        "sym": True,
        "desc_act": False,
        "lm_head": False,
        "checkpoint_format": "gptq",
        "pack_dtype": "int32",
    }


def test_gptq_repeats_its_config_where_older_engines_look() -> None:
    config = config_of(GPTQ, affine(symmetric=True))

    files = GPTQ.extra_files(config)

    assert json.loads(files["quantize_config.json"]) == config


def test_gptq_has_no_way_to_name_linears_that_stay() -> None:
    with pytest.raises(UserError, match="use format: compressed-tensors"):
        config_of(GPTQ, affine(symmetric=True), kept=("model.layers.9.x_proj",))


def test_awq_names_what_stays_but_lm_head() -> None:
    config = config_of(AWQ, affine(), kept=("lm_head", "model.layers.9.x_proj"))

    assert config["modules_to_not_convert"] == ["model.layers.9.x_proj"]


# What a format can't hold, said before any work.


@pytest.mark.parametrize(
    ("form", "tensor", "complaint"),
    [
        (GPTQ, affine(), "use symmetric: true"),
        (GPTQ, affine(5, symmetric=True), "2, 3, 4 or 8 bits"),
        (GPTQ, affine(symmetric=True, shape=(60, 96)), "60 outputs of 4 bits"),
        (GPTQ, affine(3, -1, symmetric=True, shape=(64, 40)), "40 inputs of 3 bits"),
        (GPTQ, affine(group_size=24, symmetric=True), "groups of 24"),
        (AWQ, affine(3), "use bits: 4"),
        (AWQ, affine(symmetric=True), "use symmetric: false"),
        (AWQ, affine(shape=(60, 96)), "60 outputs"),
        (AWQ, affine(group_size=48), "groups of 48"),
        (COMPRESSED_TENSORS, affine(group_size=64), "64 does not divide 96 inputs"),
        (GPTQ, affine(group_size=64, symmetric=True), "64 does not divide 96 inputs"),
        (AWQ, affine(group_size=64), "64 does not divide 96 inputs"),
    ],
)
def test_a_tensor_that_readers_would_refuse_is_refused_with_the_way_out(
    form: Format, tensor: Affine, complaint: str
) -> None:
    mistake = form.why_unsupported(sketch(tensor))

    assert mistake is not None
    assert complaint in mistake


@each_held
def test_a_tensor_that_a_format_holds_is_no_mistake(
    form: Format, bits: int, symmetric: bool
) -> None:
    tensor = affine(bits, symmetric=symmetric)

    assert form.why_unsupported(tensor) is None
    assert form.why_unsupported(sketch(tensor)) is None


def test_gptq_refuses_scales_that_float16_would_change() -> None:
    tensor = affine(symmetric=True)
    tensor.scales[3, 1] = 1.1e-6

    mistake = GPTQ.why_unsupported(tensor)

    assert mistake is not None
    assert "1 of 192 scales" in mistake


def test_gptq_never_rounds_a_scale_in_silence() -> None:
    tensor = affine(symmetric=True)
    tensor.scales[3, 1] = 1.1e-6

    with pytest.raises(UserError, match=rf"{MODULE}: 1 of 192 scales"):
        GPTQ.pack(MODULE, tensor)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_holds_the_smallest_scales_that_a_grid_chooses(bits: int) -> None:
    weight = torch.linspace(-1e-6, 1e-3, 64 * 96).reshape(64, 96)

    tensor = Affine.fit(weight, Grid(bits, 32, symmetric=True))

    assert GPTQ.why_unsupported(tensor) is None


def test_gptq_holds_every_bfloat16_scale_in_float16s_reach() -> None:
    tensor = affine(symmetric=True)
    exponents = torch.arange(-17, 15).repeat(6).reshape(64, 3)
    mantissas = 1 + torch.arange(192).reshape(64, 3) % 128 / 128
    scale = (mantissas * 2.0**exponents).to(torch.bfloat16)

    mistake = GPTQ.why_unsupported(
        Affine(codes=tensor.codes, scale=scale, zero=None, bits=4, group_size=32)
    )

    assert mistake is None


def test_two_schemes_with_zeros_are_refused_since_transformers_would_compute_garbage() -> None:
    mistake = COMPRESSED_TENSORS.why_unsupported_together(
        {"a_proj": affine(), "lm_head": affine(8)}
    )

    assert mistake is not None
    assert "lm_head asymmetric 8 bits in groups of 32" in mistake


def test_two_symmetric_schemes_fit_in_compressed_tensors() -> None:
    quantized = {"a_proj": affine(symmetric=True), "lm_head": affine(8, symmetric=True)}

    assert COMPRESSED_TENSORS.why_unsupported_together(quantized) is None


@pytest.mark.parametrize("form", [GPTQ, AWQ], ids=["gptq", "awq"])
def test_formats_with_one_scheme_refuse_a_second(form: Format) -> None:
    symmetric = form is GPTQ
    quantized = {
        "a_proj": affine(symmetric=symmetric),
        "b_proj": affine(symmetric=symmetric, group_size=16),
    }

    mistake = form.why_unsupported_together(quantized)

    assert mistake is not None
    assert "groups of 16" in mistake


@pytest.mark.parametrize("name", ["awq", "compressed-tensors", "gptq"])
def test_every_format_is_found_by_the_name_it_says(name: str) -> None:
    assert name in formats()
    assert format_named(name).name == name


@pytest.mark.parametrize(
    ("form", "tied", "held"),
    [
        (COMPRESSED_TENSORS, False, {"lm_head"}),
        (COMPRESSED_TENSORS, True, set()),
        (GPTQ, False, set()),
        (AWQ, False, set()),
    ],
)
def test_a_format_offers_only_the_embeddings_that_readers_load(
    form: Format, tied: bool, held: set[str]
) -> None:
    assert form.embeddings(tied) == held
    assert (form.why_embeddings_unsupported(tied) is None) == bool(held)


def test_tied_embeddings_are_refused_with_the_reason() -> None:
    assert "no reader accepts packed" in str(
        COMPRESSED_TENSORS.why_embeddings_unsupported(tied=True)
    )


@pytest.mark.parametrize(
    ("form", "model", "scales"),
    [
        (COMPRESSED_TENSORS, torch.float32, torch.float32),
        (COMPRESSED_TENSORS, torch.bfloat16, torch.bfloat16),
        (GPTQ, torch.bfloat16, torch.bfloat16),
        (GPTQ, torch.float32, torch.float16),
        (AWQ, torch.float32, torch.float16),
    ],
)
def test_scales_have_a_dtype_that_readers_keep(
    form: Format, model: torch.dtype, scales: torch.dtype
) -> None:
    assert form.scale_dtype(model) == scales
