"""hubq folders read as their dequantized weights, packed or not, or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from damaged_folder import DAMAGES, change_config
from hubq_folder import IDS, round_all, round_linears, write
from safetensors.torch import load_file
from tiny_models import save_tiny_model
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import hubq
from hubq.runtime.quantizer import HubqConfig, HubqQuantizer

FAMILIES = ("llama", "llama3.2", "mistral", "qwen2", "qwen3")  # llama3.2 and qwen2 are tied


def read(folder: Path, *, packed: bool = False, **options: Any) -> Any:
    """Load a folder as users do."""
    config = AutoConfig.from_pretrained(folder)
    config.quantization_config["packed"] = packed
    return AutoModelForCausalLM.from_pretrained(
        folder, config=config, **{"dtype": "auto", **options}
    )


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.fixture(scope="module")
def folders(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Write a folder of each family, with quantized embeddings; its twin lies beside it."""
    root = tmp_path_factory.mktemp("hubq")
    for family in FAMILIES:
        write(tiny_model(family), root / family, round_all)
    return {family: root / family for family in FAMILIES}


@pytest.fixture(scope="module")
def tied(folders: dict[str, Path]) -> Path:
    return folders["llama3.2"]


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Write a folder that a test may spoil."""
    write(tiny_model("llama"), tmp_path / "packed")
    return tmp_path / "packed"


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_dequantized_weights(family: str, folders: dict[str, Path]) -> None:
    twin = folders[family].with_name(f"{family}-dequantized")
    expected = logits(AutoModelForCausalLM.from_pretrained(twin, dtype="auto"))

    assert torch.equal(logits(read(folders[family])), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_model_computes_the_same(
    family: str, dtype: torch.dtype, folders: dict[str, Path]
) -> None:
    found = logits(read(folders[family], packed=True, dtype=dtype))

    assert found.dtype == dtype
    assert torch.equal(found, logits(read(folders[family], dtype=dtype)))


def test_in_float32_no_weight_is_rounded(tiny_model: Callable[[str], Path], tied: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    weight = load_file(tiny_model("llama3.2") / "model.safetensors")[name].float()
    quantized = round_linears("up_proj", weight)

    found = read(tied, dtype=torch.float32).get_parameter(name)

    assert quantized is not None
    assert torch.equal(found, quantized.dequantize())


def test_a_dequantized_model_is_a_plain_one(folders: dict[str, Path]) -> None:
    model = read(folders["qwen2"])

    assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not hasattr(model, "hf_quantizer")
    assert not hasattr(model.config, "quantization_config")


def test_a_packed_model_takes_the_memory_of_its_file(tied: Path) -> None:
    stored = sum(each.nbytes for each in load_file(tied / "model.safetensors").values())

    model = read(tied, packed=True)

    persistent = sum(each.nbytes for each in model.state_dict().values())
    everything = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    assert persistent == stored
    assert everything - stored <= 2 * 4 * 8  # the frequencies of the rotary embedding


def test_a_forward_pass_keeps_no_dense_weight(tied: Path) -> None:
    model = read(tied, packed=True)
    before = {name: each.nbytes for name, each in vars_of(model).items()}

    logits(model)

    assert {name: each.nbytes for name, each in vars_of(model).items()} == before


def vars_of(model: Any) -> dict[str, torch.Tensor]:
    """Return every tensor that any module holds, however it holds it."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        for key, value in {**vars(module), **module._parameters, **module._buffers}.items()
        if isinstance(value, torch.Tensor)
    }


def test_a_model_may_be_asked_to_stay_packed_as_transformers_has_it(tied: Path) -> None:
    with pytest.warns(UserWarning, match=r"loading attributes \(e\.g\. \['packed'\]\)"):
        model = AutoModelForCausalLM.from_pretrained(
            tied, quantization_config=hubq.HubqConfig(packed=True)
        )

    assert type(model.lm_head).__name__ == "TiedLinear"


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
@pytest.mark.parametrize("packed", [False, True])
def test_a_device_map_is_followed(packed: bool, device_map: Any, tied: Path) -> None:
    model = read(tied, packed=packed, device_map=device_map)

    assert torch.equal(logits(model), logits(read(tied)))


def test_layers_on_the_disk_must_stay_packed(tied: Path, tmp_path: Path) -> None:
    places = {"model": "cpu", "lm_head": "disk"}

    with pytest.raises(ValueError, match="must stay packed"):
        read(tied, device_map=places, offload_folder=tmp_path / "offloaded")


@pytest.mark.parametrize("packed", [False, True])
def test_a_device_map_makes_room_for_what_will_be_there(packed: bool, tied: Path) -> None:
    model = read(tied, packed=True)
    quantizer = HubqQuantizer(HubqConfig(packed=packed))
    layer = "model.layers.0.mlp.up_proj"

    counted = sum(
        quantizer.param_element_size(model, f"{layer}.{name}", buffer) * buffer.numel()
        for name, buffer in model.get_submodule(layer).named_buffers()
    )

    packed_bytes = sum(each.nbytes for each in model.get_submodule(layer).buffers())
    assert counted == (packed_bytes if packed else 128 * 64 * 2)


def test_what_moves_a_layers_inputs_goes_along_when_it_is_dequantized(tied: Path) -> None:
    # What a device_map over several GPUs does; "meta" is the one other device that there is here.
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    model = read(tied, packed=True)
    layer = model.model.layers[0].mlp.up_proj
    add_hook_to_module(layer, AlignDevicesHook(execution_device="meta"))
    quantizer = HubqQuantizer(HubqConfig())
    quantizer.stored, quantizer.tied = {}, {}

    quantizer._process_model_after_weight_loading(model)

    assert model.model.layers[0].mlp.up_proj._hf_hook.execution_device == "meta"


def test_a_packed_model_is_moved_but_its_scales_are_not_rounded(tied: Path) -> None:
    model = read(tied, packed=True, dtype=torch.bfloat16).to(torch.float32)

    assert model.model.layers[0].mlp.up_proj.weight_scale.dtype == torch.bfloat16
    assert torch.equal(logits(model), logits(read(tied, packed=True, dtype=torch.float32)))


@pytest.mark.parametrize("family", ["llama", "llama3.2"])
def test_a_packed_model_is_saved_as_it_was_read(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = read(folders[family], packed=True)

    model.save_pretrained(tmp_path / "copy")

    first, second = (
        load_file(each / "model.safetensors") for each in (folders[family], tmp_path / "copy")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    copy = AutoModelForCausalLM.from_pretrained(tmp_path / "copy", dtype="auto")
    assert type(copy.model.layers[0].mlp.up_proj).__name__ == "PackedLinear"
    assert torch.equal(logits(copy), logits(model))


def test_a_dequantized_model_is_saved_as_any_other(tied: Path, tmp_path: Path) -> None:
    read(tied).save_pretrained(tmp_path / "copy")

    config = json.loads((tmp_path / "copy/config.json").read_bytes())
    assert not {"quantization_config", "auto_map"} & config.keys()
    assert torch.equal(logits(read_plain(tmp_path / "copy")), logits(read(tied)))


def read_plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


def test_text_is_generated_from_a_packed_model(tied: Path) -> None:
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}

    found = read(tied, packed=True).generate(IDS[:1], **options)

    assert torch.equal(found, read(tied).generate(IDS[:1], **options))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused(damage: Any, packed: bool, folder: Path) -> None:
    damage.inflict(folder)

    with pytest.raises(ValueError, match=f"(?s){damage.message}"):
        read(folder, packed=packed)


def test_a_key_that_the_format_does_not_know_is_ignored(folder: Path) -> None:
    expected = logits(read(folder))
    change_config(lambda config: config.update(sparsity=0.5))(folder)

    assert torch.equal(logits(read(folder)), expected)


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(TypeError, match="pakced"):
        HubqConfig(pakced=True)  # type: ignore[call-arg]


def test_a_class_of_model_without_the_modules_is_refused(folder: Path) -> None:
    with pytest.raises(
        ValueError, match="LlamaModel has no such module: load it with AutoModelFor"
    ):
        AutoModel.from_pretrained(folder)


def test_nothing_is_quantized_on_the_fly(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="require the model to be pre-quantized"):
        AutoModelForCausalLM.from_pretrained(tiny_model("llama"), quantization_config=HubqConfig())


def test_transformers_without_hubq_stops_at_the_shapes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.quantizers import auto

    monkeypatch.delitem(auto.AUTO_QUANTIZER_MAPPING, "hubq")
    monkeypatch.delitem(auto.AUTO_QUANTIZATION_CONFIG_MAPPING, "hubq")

    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    save_tiny_model("llama", tmp_path / "base")
    twin = write(tmp_path / "base", tmp_path / "packed", round_all)
    read(tmp_path / "packed", packed=True).save_pretrained(tmp_path / "copy", max_shard_size="20KB")

    assert len(list((tmp_path / "copy").glob("*.safetensors"))) > 1
    assert torch.equal(logits(read(tmp_path / "copy")), logits(read_plain(twin)))


def test_a_tensor_that_two_files_hold_is_refused(folder: Path) -> None:
    one, other = (f"model-{number:05d}-of-00002.safetensors" for number in (1, 2))
    (folder / "model.safetensors").rename(folder / one)
    shutil.copy(folder / one, folder / other)
    listed = {"model.norm.weight": one, "lm_head.weight": other}
    index = {"metadata": {}, "weight_map": listed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(ValueError, match=f"{one} and .*{other} both hold"):
        read(folder)
