"""What a converted folder has beside its modules, and which tensors of the source it has not."""

from collections.abc import Mapping
from typing import Any

import torch

from hubq.architecture import FAMILIES
from hubq.companions import json_bytes
from hubq.errors import UserError
from hubq.foreign.folder import QuantizedFolder
from hubq.format import Format
from hubq.formats.dense import MARK

LEFT_OUT = ("quantization_config", "compression_config", "auto_map", MARK)


def config_json(
    source: QuantizedFolder, form: Format, quantization: Mapping[str, Any], name: str
) -> bytes:
    """Return config.json: the source's, with the new quantization in the place of the old."""
    kept = {key: value for key, value in source.config.items() if key not in LEFT_OUT}
    kept["dtype" if "dtype" in kept else "torch_dtype"] = source.dtype
    kept |= form.config_additions()
    if quantization:
        kept["quantization_config"] = dict(quantization)
    else:
        kept[MARK] = {"model": name, "quant_method": source.form.name}
    return json_bytes(kept)


def superfluous(source: QuantizedFolder) -> dict[str, str]:
    """Return the biases that the architecture has not, and a sentence on why they are left out.

    AutoGPTQ once wrote a bias of zeros for every linear. Readers of other formats would stop at
    them. Raises UserError where such a bias is not zero: no reader would add it.
    """
    expected = _biases(source)
    if expected is None:
        return {}
    found = [f"{module}.bias" for module in source.modules]
    strange = [name for name in found if name in source.weights.info and name not in expected]
    for name in strange:
        if source.weights.read(name).any():
            raise UserError(
                f"{source.folder} has a tensor {name}, which a model of its architecture has not "
                "by its config.json: correct that, or fetch the model again"
            )
    return dict.fromkeys(strange, f"{len(strange)} biases that were all zero were left out.")


def _biases(source: QuantizedFolder) -> set[str] | None:
    """Return the names of all biases of blocks and head; None for an architecture not known."""
    from hubq.block import Skeleton

    names = source.config.get("architectures") or [""]
    if names[0] not in FAMILIES or not any(name.endswith(".bias") for name in source.others):
        return None
    family = FAMILIES[names[0]]
    kept = {key: value for key, value in source.config.items() if key not in LEFT_OUT}
    blocks = Skeleton(kept, family, torch.device("cpu")).blocks
    return {
        f"{family.blocks}.{number}.{name}"
        for number, block in enumerate(blocks)
        for name in block.state_dict()
        if name.endswith(".bias")
    }
