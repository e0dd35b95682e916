"""What configs say of modules that see: no reader takes them for quantized, by any of its names."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from compressed_tensors.utils import match_named_modules
from tiny_vision import TINY
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module

from hubq.formats import format_named
from hubq.machine.files import read_object
from hubq.methods import Method, method_class
from hubq.sources.language_part import Whole, opened
from hubq.sources.skeleton import without_weights
from hubq.tensors import QuantizedTensor

METHODS = {
    "awq": ("rtn", {"bits": 4, "group_size": 32, "symmetric": False}),
    "bitsandbytes": ("bitsandbytes", {}),
    "compressed-tensors": ("rtn", {"bits": 4, "group_size": 32}),
    "gptq": ("rtn", {"bits": 4, "group_size": 32, "symmetric": True}),
}


@pytest.fixture
def whole(tiny_vision_model: Callable[[str], Path]) -> Callable[[str], tuple[Whole, nn.Module]]:
    """Return a function from an architecture to what is known of it and its empty model."""

    def found(architecture: str) -> tuple[Whole, nn.Module]:
        folder = tiny_vision_model(architecture)
        known = opened(folder).whole
        assert known is not None
        return known, without_weights(read_object(folder / "config.json"), sees=True)

    return found


def sketched(names: list[str], form: str) -> dict[str, QuantizedTensor]:
    name, options = METHODS[form]
    method: Method = method_class(name).model_validate(options)
    scales = format_named(form).scale_dtype
    import torch

    return dict.fromkeys(names, method.sketch((64, 64), scales(torch.bfloat16)))


def linears(known: Whole, model: nn.Module) -> tuple[list[str], list[str]]:
    """Name the linears in memory: those of the language part's blocks, and all others."""
    every = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    ours = [name for name in every if name.startswith(f"{known.family.body}.layers.")]
    return ours, [name for name in every if name not in ours]


def elsewhere(known: Whole, name: str) -> list[str]:
    """Spell a module as transformers 4, the files and vLLM do."""
    bare = name.removeprefix("model.")
    spelled = [name, bare, bare.replace("vision_tower.", "vision_tower.vision_model.", 1)]
    inside = name.removeprefix(f"{known.family.body}.")
    if inside != name:
        spelled = [name, f"{known.body}.{inside}", f"language_model.model.{inside}"]
    return spelled


@pytest.mark.parametrize("architecture", TINY)
@pytest.mark.parametrize(
    ("form", "key"), [("awq", "modules_to_not_convert"), ("bitsandbytes", "llm_int8_skip_modules")]
)
def test_listed_modules_are_found_at_the_beginning_of_a_name_and_within_it(
    whole: Callable[[str], tuple[Whole, nn.Module]], architecture: str, form: str, key: str
) -> None:
    known, model = whole(architecture)
    ours, others = linears(known, model)

    listed = format_named(form).config(sketched(ours, form), ["lm_head"], known.family)[key]

    assert all(should_convert_module(name, listed) for name in ours)  # transformers 5
    assert not any(should_convert_module(name, listed) for name in others)
    for name in (spelled for each in ours for spelled in elsewhere(known, each)):
        assert not any(each in name for each in listed)  # transformers 4, vLLM
    for name in (spelled for each in others for spelled in elsewhere(known, each)):
        assert any(each in name for each in listed)


@pytest.mark.parametrize("architecture", TINY)
def test_compressed_tensors_ignores_them_and_tells_schemes_apart(
    whole: Callable[[str], tuple[Whole, nn.Module]], architecture: str
) -> None:
    known, model = whole(architecture)
    ours, others = linears(known, model)
    form = "compressed-tensors"
    eight = method_class("rtn").model_validate({"bits": 8, "group_size": 32}).sketch
    import torch

    some = sketched(ours, form) | {ours[0]: eight((64, 64), torch.bfloat16)}

    config = format_named(form).config(some, ["lm_head"], known.family)

    def chosen(bits: int) -> set[str]:
        (targets,) = (
            group["targets"]
            for group in config["config_groups"].values()
            if group["weights"]["num_bits"] == bits
        )
        return {name for name, _ in match_named_modules(model, targets, config["ignore"])}

    assert chosen(4) == {*ours}  # of which the named one is taken before
    assert chosen(8) == {ours[0]}
    for name in (spelled for each in others for spelled in elsewhere(known, each)):
        assert any(re.match(each.removeprefix("re:"), name) for each in config["ignore"])
    (named,) = next(iter(config["config_groups"].values()))["targets"]
    assert all(re.match(named.removeprefix("re:"), each) for each in elsewhere(known, ours[0]))


@pytest.mark.parametrize("architecture", TINY)
def test_gptq_says_where_the_blocks_are_and_excludes_what_sees(
    whole: Callable[[str], tuple[Whole, nn.Module]], architecture: str
) -> None:
    known, model = whole(architecture)
    ours, others = linears(known, model)

    config = format_named("gptq").config(sketched(ours, "gptq"), ["lm_head"], known.family)

    excluded = [each.removeprefix("-:") for each in config["dynamic"]]
    assert isinstance(model.get_submodule(config["block_name_to_quantize"]), nn.ModuleList)
    for name in (spelled for each in others for spelled in elsewhere(known, each)):
        assert name.endswith("lm_head") or any(re.match(each, name) for each in excluded)
    for name in (spelled for each in ours for spelled in elsewhere(known, each)):
        assert not any(re.match(each, name) for each in excluded)
