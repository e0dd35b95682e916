"""How far apart two folders are: exactly as many codes, scales and weights as were changed."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hubq_folder
import pytest
import torch
from made_tensors import every_kind
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats.dense import Plain, plain
from hubq.machine.progress import SILENT
from hubq.methods import Inputs, Layer
from hubq.methods.bitsandbytes import BitsAndBytes
from hubq.sources.shards import index
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe
from hubq.stages.reproduce.comparison import Compared, compare_files, compare_models
from hubq.tensors import Affine, Codebook, Grid, QuantizedTensor
from hubq.tensors.floating import Floating

FIRST = "model.layers.0.self_attn.q_proj"
SHAPE = (64, 64)


def affine(weight: Tensor, *, symmetric: bool) -> Affine:
    return Affine.fit(weight, Grid(bits=4, group_size=32, symmetric=symmetric))


def nf4(weight: Tensor) -> QuantizedTensor:
    return BitsAndBytes().quantize(Layer(FIRST, weight, Inputs(tokens=0), torch.bfloat16))


def dense(weight: Tensor) -> QuantizedTensor:
    return plain(affine(weight, symmetric=True), torch.bfloat16)


WAYS: dict[str, Callable[[Tensor], QuantizedTensor]] = {
    "awq": lambda weight: affine(weight, symmetric=False),
    "bitsandbytes": nf4,
    "compressed-tensors": lambda weight: affine(weight, symmetric=True),
    "dense": dense,
    "gptq": lambda weight: affine(weight, symmetric=True),
    "hubq": lambda weight: affine(weight, symmetric=False),
}


@pytest.fixture
def write(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Path]:
    """Return a function that writes a model whose linears a function rounds."""

    def written(name: str, quantize: Callable[[str, Tensor], QuantizedTensor], form: str) -> Path:
        def linears(module: str, weight: Tensor) -> QuantizedTensor | None:
            return quantize(module, weight) if module.endswith("_proj") else None

        folder = tmp_path / name
        hubq_folder.write(tiny_model("llama"), folder, linears, form)
        return folder

    return written


def compared(ours: Path, theirs: Path) -> Compared:
    names = {name.partition("_proj.")[0] for name in index(ours) if "_proj." in name}
    return compare_models(ours, theirs, {f"{name}_proj": SHAPE for name in names}, SILENT)


def changed(tensor: QuantizedTensor) -> QuantizedTensor:
    """Change one code of a matrix."""
    if isinstance(tensor, Plain):
        weight = tensor.weight.clone()
        weight[3, 5] += 1
        return Plain(weight)
    assert isinstance(tensor, Affine | Codebook)
    codes = tensor.codes.clone()
    codes[3, 5] ^= 1
    return replace(tensor, codes=codes)


@pytest.mark.parametrize("form", WAYS)
def test_one_code_that_differs_is_counted_and_measured(
    write: Callable[..., Path], form: str
) -> None:
    way = WAYS[form]
    theirs = write("theirs", lambda _, weight: way(weight), form)
    ours = write(
        "ours", lambda name, weight: changed(way(weight)) if name == FIRST else way(weight), form
    )

    found = compared(ours, theirs)

    (apart,) = found.apart
    assert (apart.name, apart.codes_apart, apart.scales_apart) == (FIRST, 1, 0)
    assert apart.largest is not None
    assert apart.mean == pytest.approx(apart.largest / apart.codes)
    assert found.codes_apart == pytest.approx(1 / found.codes)
    if form not in ("dense", "bitsandbytes"):  # levels as far apart as the scale says
        assert apart.step is not None
        assert 0.3 < apart.largest / apart.step < 3


def test_the_same_folders_are_not_apart(write: Callable[..., Path]) -> None:
    both = [write(name, lambda _, weight: nf4(weight), "hubq") for name in ("ours", "theirs")]

    found = compared(*both)

    assert found.apart == ()
    assert found.codes_apart == 0


def test_other_scales_of_the_same_codes_are_told_apart_from_them(
    write: Callable[..., Path],
) -> None:
    def doubled(name: str, weight: Tensor) -> QuantizedTensor:
        tensor = affine(weight, symmetric=False)
        return replace(tensor, scale=2 * tensor.scales) if name == FIRST else tensor

    theirs = write("theirs", lambda _, weight: affine(weight, symmetric=False), "awq")
    ours = write("ours", doubled, "awq")

    (apart,) = compared(ours, theirs).apart

    assert apart.codes_apart == 0
    assert apart.scales_apart == apart.scales // 2  # zeros are the other half


def test_what_scales_of_floats_are_divided_by_is_one_of_them(write: Callable[..., Path]) -> None:
    def rounded(weight: Tensor, divisor: float) -> Floating:
        scale = torch.full((len(weight), weight.shape[1] // 16), 2.0).to(torch.float8_e4m3fn)
        empty = torch.empty(weight.shape, dtype=torch.uint8)
        floats = Floating(empty, scale, (1, 16), torch.tensor([100.0])).rounded(weight)
        return replace(floats, divisor=torch.tensor([divisor]))

    theirs = write("theirs", lambda _, weight: rounded(weight, 100.0), "compressed-tensors")
    ours = write(
        "ours",
        lambda name, weight: rounded(weight, 200.0 if name == FIRST else 100.0),
        "compressed-tensors",
    )

    (apart,) = compared(ours, theirs).apart

    assert (apart.codes, apart.codes_apart) == (64 * 64, 0)
    assert (apart.scales, apart.scales_apart) == (64 * 4 + 1, 1)


def test_codes_of_another_width_do_not_compare_but_weights_do(
    write: Callable[..., Path],
) -> None:
    theirs = write("theirs", lambda _, weight: affine(weight, symmetric=False), "hubq")
    ours = write("ours", lambda _, weight: Affine.fit(weight, Grid(bits=3, group_size=32)), "hubq")

    found = compared(ours, theirs)

    assert found.codes_apart is None
    assert {each.codes_apart for each in found.apart} == {None}
    assert all(each.mean is not None and each.mean > 0 for each in found.apart)


def test_a_matrix_that_one_side_alone_quantizes_is_compared_by_its_weights(
    write: Callable[..., Path],
) -> None:
    theirs = write("theirs", lambda _, weight: affine(weight, symmetric=False), "hubq")
    ours = write(
        "ours",
        lambda name, weight: None if name == FIRST else affine(weight, symmetric=False),
        "hubq",
    )

    (apart,) = compared(ours, theirs).apart

    assert (apart.name, apart.codes_apart) == (FIRST, None)
    assert apart.mean is not None
    assert apart.step is not None
    assert 0 < apart.mean < apart.step


def test_each_kind_of_representation_has_a_step(write: Callable[..., Path]) -> None:
    def drawing(first: int) -> Callable[[str, Tensor], QuantizedTensor]:
        number = iter(range(first, first + 100))

        def drawn(_: str, weight: Tensor) -> QuantizedTensor:
            kinds = list(every_kind((weight.shape[0], weight.shape[1])))
            return kinds[next(number) % len(kinds)]  # the last ones are the rare ones

        return drawn

    found = compared(write("ours", drawing(-13), "hubq"), write("theirs", drawing(-14), "hubq"))

    assert len(found.apart) == found.modules == 14
    assert all(each.step for each in found.apart)


def test_the_language_part_of_a_model_that_sees_is_compared(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path
) -> None:  # a second: a model is quantized
    values = {
        "name": "seeing",
        "model": {"folder": tiny_vision_model("LlavaNextForConditionalGeneration")},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "format": "hubq",
        "evaluate": {"fidelity": None, "efficiency": None},
        "publish": {"org": "me"},
    }
    nowhere = Client(endpoint="http://127.0.0.1:9")
    planned = plan(Recipe.model_validate(values), tmp_path, nowhere)
    quantize(planned, tmp_path, nowhere)
    theirs, ours = tmp_path / "model", tmp_path / "ours"
    shutil.copytree(theirs, ours)
    (stored,) = [each for each in index(ours) if each.endswith("layers.1.mlp.up_proj.weight")]
    tensors = load_file(ours / "model.safetensors")
    tensors[stored].view(torch.int32)[0] ^= 1
    save_file(tensors, ours / "model.safetensors", {"format": "pt"})

    shapes = {each.name: each.shape for each in planned.modules if each.quantized}
    (apart,) = compare_models(ours, theirs, shapes, SILENT).apart

    assert (apart.name, apart.codes_apart) == ("model.layers.1.mlp.up_proj", 1)


def test_a_norm_that_differs_is_told(write: Callable[..., Path]) -> None:
    theirs, ours = (
        write(name, lambda _, weight: affine(weight, symmetric=True), "gptq")
        for name in ("theirs", "ours")
    )
    tensors = load_file(ours / "model.safetensors")
    tensors["model.norm.weight"][7] += 1
    save_file(tensors, ours / "model.safetensors", {"format": "pt"})

    (apart,) = compared(ours, theirs).apart

    assert (apart.name, apart.codes_apart, apart.largest) == ("model.norm.weight", 1, 1.0)


def test_files_of_an_adapter_are_compared_tensor_by_tensor(tmp_path: Path) -> None:
    for name, value in (("ours", 1.0), ("theirs", 3.0)):
        save_file({"a": torch.full((2, 2), value), "b": torch.ones(3)}, tmp_path / name)

    found = compare_files(tmp_path / "ours", tmp_path / "theirs")

    (apart,) = found.apart
    assert (apart.name, apart.mean, found.codes_apart) == ("a", 2.0, 4 / 7)


def test_a_release_that_names_no_format_is_refused(write: Callable[..., Path]) -> None:
    theirs, ours = (
        write(name, lambda _, weight: affine(weight, symmetric=True), "gptq")
        for name in ("theirs", "ours")
    )
    config = theirs / "config.json"
    config.write_text(config.read_text().replace('"gptq"', '"os.system"'))

    with pytest.raises(UserError, match="names no format"):
        compared(ours, theirs)


def test_a_release_with_damaged_tensors_is_refused(write: Callable[..., Path]) -> None:
    theirs, ours = (
        write(name, lambda _, weight: affine(weight, symmetric=True), "gptq")
        for name in ("theirs", "ours")
    )
    tensors = load_file(theirs / "model.safetensors")
    tensors[f"{FIRST}.scales"] = tensors[f"{FIRST}.scales"][:, :3].contiguous()
    save_file(tensors, theirs / "model.safetensors", {"format": "pt"})

    with pytest.raises(UserError, match=FIRST):
        compared(ours, theirs)
