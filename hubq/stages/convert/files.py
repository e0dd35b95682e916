"""What a converted folder has beside its modules, and which tensors of the source it has not."""

from collections.abc import Mapping
from typing import Any

from hubq.errors import UserError
from hubq.formats import Format
from hubq.formats.dense import MARK
from hubq.formats.foreign.folder import QuantizedFolder
from hubq.sources.auxiliary_files import json_bytes

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
        kept[MARK] = {"model": name, "quant_method": source.method}
    return json_bytes(kept)


def superfluous(source: QuantizedFolder) -> dict[str, str]:
    """Return the biases that the architecture has not, and a sentence on why they are left out.

    AutoGPTQ once wrote a bias of zeros for every linear. Readers of other formats would stop at
    them. Raises UserError where such a bias is not zero: no reader would add it.
    """
    if (shapes := source.shapes) is None:
        return {}
    found = [f"{module}.bias" for module in source.modules]
    strange = [name for name in found if name in source.weights.info and name not in shapes]
    for name in strange:
        if source.weights.read(name).any():
            raise UserError(
                f"{source.folder} has a tensor {name}, which a model of its architecture and "
                "config.json does not have: correct config.json, or fetch the model again"
            )
    return dict.fromkeys(strange, f"{len(strange)} biases that were all zero were left out.")
