"""Ways in which a hubq folder can be broken, and what a reader must then say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file

UP = "model.layers.1.mlp.up_proj"


class Damage(NamedTuple):
    """Something done to a folder, and the pattern of the message about it."""

    inflict: Callable[[Path], object]
    message: str


def change_tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Return what rewrites a folder's tensors."""

    def inflict(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        own = {name: tensor.clone() for name, tensor in tensors.items()}
        save_file(own, folder / "model.safetensors", {"format": "pt"})

    return inflict


def change_config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Return what rewrites a folder's quantization_config."""

    def inflict(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_bytes())
        change(config["quantization_config"])
        (folder / "config.json").write_text(json.dumps(config))

    return inflict


def cut(folder: Path) -> None:
    """Drop the last bytes of the weights, as a broken download does."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def shortened(tensors: dict[str, Any]) -> None:
    """Drop the last word of a packed tensor."""
    tensors[f"{UP}.weight"] = tensors[f"{UP}.weight"][:-1].clone()


DAMAGES = {
    "a version of the future": Damage(
        change_config(lambda config: config.update(version=99)),
        r"version 99 of the hubq format, and this reader knows versions 1 and 2",
    ),
    "an unknown kind": Damage(
        change_config(lambda config: config["schemes"][0].update(kind="woven")),
        r"damaged at model\.layers\.0\.\S*: .*weight is of the kind 'woven'",
    ),
    "a scheme without its bits": Damage(
        change_config(lambda config: config["schemes"][0].pop("bits")),
        r"the scheme of weight lacks",
    ),
    "a scheme with bits in words": Damage(
        change_config(lambda config: config["schemes"][0].update(bits="three")),
        r"damaged at model\.layers\.0\.\S*_proj: .*bits 'three'",
    ),
    "groups of nothing": Damage(
        change_config(lambda config: config["schemes"][0].update(group_size=0)),
        r"damaged at model\.layers\.0\.\S*_proj: .*group_size 0",
    ),
    "modules in a list": Damage(
        change_config(lambda config: config.update(modules=list(config["modules"]))),
        r"its modules an object",
    ),
    "a module that the model lacks": Damage(
        change_config(lambda config: config["modules"].update({"model.layers.9.x": {}})),
        r"model\.layers\.9\.x",
    ),
    "a shape that the model lacks": Damage(
        change_config(lambda config: config["modules"][UP]["shape"].reverse()),
        r"gives model\.layers\.1\.mlp\.up_proj the shape \(64, 128\), and in the model it is",
    ),
    "a module without its scheme": Damage(
        change_config(lambda config: config["modules"][UP].pop("scheme")),
        r"damaged at model\.layers\.1\.mlp\.up_proj",
    ),
    "a missing component": Damage(
        change_tensors(lambda tensors: tensors.pop(f"{UP}.weight_scale")),
        r"tensor model\.layers\.1\.mlp\.up_proj\.weight_scale is missing from .*model\.safetensors",
    ),
    "a missing norm": Damage(
        change_tensors(lambda tensors: tensors.pop("model.norm.weight")),
        r"missing from .*model\.safetensors: model\.norm\.weight",
    ),
    "a stray component": Damage(
        change_tensors(
            lambda tensors: tensors.update({f"{UP}.weight_shift": tensors[f"{UP}.weight"]})
        ),
        r"model\.safetensors holds tensors .* no place for: \S*up_proj\.weight_shift",
    ),
    "a norm of another shape": Damage(
        change_tensors(
            lambda tensors: tensors.update({"model.norm.weight": tensors[f"{UP}.weight"]})
        ),
        r"model\.norm\.weight in .*model\.safetensors has the shape \(\d+,\), and the model wants",
    ),
    "a component that is too short": Damage(
        change_tensors(shortened),
        r"model\.layers\.1\.mlp\.up_proj in .*model\.safetensors is damaged: weight: 8192 codes",
    ),
    "a component of another dtype": Damage(
        change_tensors(
            lambda tensors: tensors.update({f"{UP}.weight": tensors[f"{UP}.weight"].half()})
        ),
        r"model\.layers\.1\.mlp\.up_proj in .*model\.safetensors is damaged: .*float16",
    ),
    "a file that was cut short": Damage(cut, r"model\.safetensors is damaged or cut short"),
}
