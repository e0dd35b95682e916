"""The hubq format: whatever goes in comes out bit for bit, in as few bits as estimated."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import made_tensors
import pytest
import torch
from made_tensors import every_kind, same
from safetensors.torch import load_file
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import format_named, refusal_of
from hubq.formats.hubq import FORMAT
from hubq.runtime.reading import dequantized
from hubq.runtime.schemes import component_names
from hubq.sources.shards import write
from hubq.tensors import Affine, Mixed, QuantizedTensor

SHAPES = ((1, 1), (1, 64), (7, 13), (64, 128), (65, 127), (128, 65))
# Real enough that headers, tables and the ends of streams weigh nothing, and quick.
REALISTIC = (512, 1024)


def stored(
    tensor: QuantizedTensor,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return FORMAT.pack("m", tensor), FORMAT.config({"m": tensor}, [])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_unpacked_is_what_was_packed(shape: tuple[int, int]) -> None:
    for tensor in every_kind(shape):
        packed, config = stored(tensor)

        back = FORMAT.unpack("m", packed, config)

        assert same(tensor, back)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_one_reader_gives_the_methods_own_floats(shape: tuple[int, int]) -> None:
    for tensor in every_kind(shape):
        packed, config = stored(tensor)
        own = {name.removeprefix("m."): each for name, each in packed.items()}

        weight = dequantized(config["schemes"][0], own, tensor.shape)

        assert torch.equal(weight, tensor.dequantize())


def test_a_file_gives_back_what_memory_had(tmp_path: Path) -> None:
    for number, tensor in enumerate(every_kind((65, 127))):
        packed, config = stored(tensor)
        write(tmp_path / f"{number}.safetensors", packed)

        back = FORMAT.unpack("m", load_file(tmp_path / f"{number}.safetensors"), config)

        assert same(tensor, back)


def test_a_scheme_names_the_tensors_that_are_stored() -> None:
    for tensor in every_kind((7, 130)):
        packed, config = stored(tensor)

        names = [f"m.{name}" for name in component_names(config["schemes"][0])]

        assert sorted(names) == sorted(packed)


def test_the_main_tensor_is_called_weight_and_has_another_shape() -> None:
    for tensor in every_kind((7, 13)):
        packed, _ = stored(tensor)

        assert packed["m.weight"].dim() == 1


def test_parts_without_columns_take_nothing_and_come_back() -> None:
    empty = Affine(torch.zeros(7, 0, dtype=torch.uint8), torch.zeros(7, 0).bfloat16(), None, 3, 8)
    full = made_tensors.affine((7, 24), 2, 8)
    tensor = Mixed((empty, full), torch.ones(3, dtype=torch.uint8), 8)

    packed, config = stored(tensor)

    assert packed["m.weight_0"].numel() == 0
    assert same(FORMAT.unpack("m", packed, config), tensor)


def test_each_scheme_is_listed_once() -> None:
    one, other = made_tensors.affine((8, 32), 2, 16), made_tensors.affine((16, 64), 2, 16)
    third = made_tensors.affine((8, 32), 3, 16)

    config = FORMAT.config({"a": one, "b": other, "c": third}, kept=["lm_head"])

    assert [config["modules"][name]["scheme"] for name in "abc"] == [0, 0, 1]
    assert config["modules"]["b"]["shape"] == [16, 64]
    assert len(config["schemes"]) == 2


def test_only_what_an_old_reader_would_misread_makes_a_file_of_version_2() -> None:
    for tensor in every_kind((7, 130)):
        config = FORMAT.config({"m": tensor}, [])

        assert config["version"] == (2 if "'flat'" in str(config) else 1)
    plain = made_tensors.codebook((8, 40), shared=False)
    shifted = replace(plain, shift=made_tensors.positive((8, 1)))
    assert FORMAT.config({"m": plain, "n": shifted}, [])["version"] == 2


def test_bits_are_counted_as_they_are_stored() -> None:
    for tensor in every_kind(REALISTIC):
        packed, _ = stored(tensor)

        size = 8 * sum(each.nbytes for each in packed.values())

        weights = REALISTIC[0] * REALISTIC[1]
        assert tensor.stored_bits() * weights == pytest.approx(size, rel=0.01)


# Errors -----------------------------------------------------------------------------------------


def change(config: Mapping[str, Any], *path: str | int, value: object) -> dict[str, Any]:
    """Return a config with one value changed, or dropped when it is None."""
    changed: Any = copy.deepcopy(dict(config))
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("version",), 3, "version 3 of the hubq format, and this reader knows versions 1 and 2"),
        (("version",), None, "version None"),
        (("modules", "m"), None, "lists no module m"),
        (("modules", "m", "scheme"), 7, "has scheme 7"),
        (("modules", "m", "shape"), [9, 32], "weight"),
        (("schemes", 0, "kind"), "ternary", "of the kind 'ternary'; this reader knows"),
        (("schemes", 0, "bits"), None, "lacks bits"),
        (("schemes", 0, "bits"), 9, "bits"),
        (("schemes", 0, "bits"), 3, "fill 24 words"),
        (("schemes", 0, "group_size"), 0, "group_size"),
        (("schemes", 0, "group_size"), 8, "weight_zero"),
        (("schemes", 0, "scale", "kind"), "scalar", "of the kind 'scalar'"),
    ],
)
def test_a_damaged_config_is_a_users_error(
    path: tuple[str | int, ...], value: object, said: str
) -> None:
    packed, config = stored(made_tensors.affine((8, 32), 4, 16))

    with pytest.raises(UserError, match=said):
        FORMAT.unpack("m", packed, change(config, *path, value=value))


STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 3, 9, 1 << 31, 1 << 62, 0.5, float("nan"), "affine", "binary", [], {},
    [1], {"kind": "float", "dtype": "float16"}, {"kind": ["affine"]}, {"kind": "affine"},
)  # fmt: skip


def places(value: object, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield the path to everything inside of a JSON value."""
    if isinstance(value, Mapping):
        inside: list[tuple[str | int, Any]] = list(value.items())
    else:
        inside = list(enumerate(value)) if isinstance(value, list) else []
    for key, each in inside:
        yield (*path, key)
        yield from places(each, *path, key)


def damaged(
    packed: Mapping[str, Tensor], config: Mapping[str, Any], random: Random
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and config of which one thing is not as it was."""
    if random.random() < 0.7:
        path = random.choice(list(places(config)))
        return dict(packed), change(config, *path, value=random.choice(STRANGE))
    name = random.choice(list(packed))
    tensor = packed[name]
    others = (tensor.reshape(-1)[:-1], tensor.float(), tensor.reshape(-1), tensor.new_zeros(0))
    return {**packed, name: random.choice(others)}, dict(config)


def test_whatever_is_damaged_is_a_users_error_or_a_tensor() -> None:
    read = refused = 0
    for number, tensor in enumerate(every_kind((6, 48))):
        packed, config = stored(tensor)
        for seed in range(30):
            try:
                changed = damaged(packed, config, Random(1000 * number + seed))
                assert FORMAT.unpack("m", *changed).dequantize().shape == (6, 48)
                read += 1
            except UserError:
                refused += 1
    assert refused > read > 0


def test_a_missing_tensor_is_a_users_error_that_names_it() -> None:
    for tensor in every_kind((7, 130)):
        packed, config = stored(tensor)
        for name in packed:
            less = {key: each for key, each in packed.items() if key != name}

            with pytest.raises(UserError, match=f"{name.removeprefix('m.')} is missing"):
                FORMAT.unpack("m", less, config)


def test_a_tensor_that_was_cut_is_a_users_error_that_names_it() -> None:
    for tensor in every_kind((7, 130)):
        packed, config = stored(tensor)
        for name, each in packed.items():
            if each.numel():
                with pytest.raises(UserError, match=name.removeprefix("m.")):
                    FORMAT.unpack("m", {**packed, name: each[:-1]}, config)


def test_codes_beyond_the_table_are_a_users_error() -> None:
    tensor = made_tensors.codebook((8, 40), shared=True)
    packed, config = stored(tensor)
    packed["m.weight"] = torch.full_like(packed["m.weight"], -1)

    with pytest.raises(UserError, match="beyond the 12 entries"):
        FORMAT.unpack("m", packed, config)


def test_a_mask_between_other_kinds_is_a_users_error() -> None:
    packed, config = stored(made_tensors.masked((8, 40), 0.5))
    affine = config["schemes"][0]["chosen"]

    with pytest.raises(UserError, match="between other kinds than affine and binary"):
        FORMAT.unpack("m", packed, change(config, "schemes", 0, "rest", value=affine))


def test_rounded_inputs_are_refused_with_a_way_out() -> None:
    given = made_tensors.affine((8, 32), 8, 32, symmetric=True)
    tensor = Affine(given.codes, given.scale, None, 8, 32, activation_bits=8)

    assert FORMAT.why_unsupported(tensor) == (
        "hubq files hold weights only; use format: compressed-tensors"
    )


@pytest.mark.parametrize("name", ["compressed-tensors", "gptq", "awq"])
def test_other_formats_send_quantized_scales_here(name: str) -> None:
    tensor = made_tensors.nested((64, 128), 4, 32)

    mistake = refusal_of(format_named(name), tensor)

    assert mistake is not None
    assert "makes quantized scales; use format: hubq" in mistake


@pytest.mark.parametrize("name", ["compressed-tensors", "gptq", "awq"])
def test_other_formats_send_what_is_not_affine_here(name: str) -> None:
    mistake = refusal_of(format_named(name), made_tensors.binary((64, 128)))

    assert mistake is not None
    assert "makes Binary weights; use format: hubq" in mistake
