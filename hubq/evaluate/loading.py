"""Load a folder as a downloader would, and prove that all of its weights arrived.

transformers only warns when it doesn't know a quantization method, and leaves random weights where
a file lacks a tensor. Here each of these is an error.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hubq.engines import missing_packages
from hubq.errors import UserError

UNPACKED = frozenset({"gptq", "awq"})  # by hubq, where transformers lacks the packages for it
# What reads a folder when it is not transformers alone.
LOADERS = {"hubq": "transformers with hubq's quantizer"}


class Loaded(NamedTuple):
    """A model that is ready to measure, and what read it."""

    model: Any
    loader: str


class Warnings(logging.Handler):
    """What transformers logs about a folder: its exceptions only point to that."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text, without the escapes of a terminal."""
        self.texts.append(re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage()).rstrip())


def load(folder: Path, *, device: str, dtype: str) -> Loaded:
    """Load a model's folder; raise UserError unless every tensor found its place."""
    import torch

    quantization = _config(folder).get("quantization_config") or {}
    method = _known(quantization.get("quant_method", ""), folder)
    missing = missing_packages(method) if method in UNPACKED else []
    element = getattr(torch, dtype)
    if missing:
        model = _unpacked(folder, quantization, element)
        loader = f"hubq's own {method} reader ({' and '.join(missing)} not installed)"
    else:
        model, loader = _by_transformers(folder, element), LOADERS.get(method, "transformers")
    model = model.to(device).eval()
    _first_forward(model, folder)
    return Loaded(model, loader)


def _config(folder: Path) -> dict[str, Any]:
    """Read config.json."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no readable config.json ({error})") from error
    return config


def _known(method: str, folder: Path) -> str:
    """Refuse a quantization that transformers would skip with a warning."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    loadable = {name.split("_")[0] for name in AUTO_QUANTIZER_MAPPING}  # bitsandbytes_4bit
    if method and method not in loadable | set(AUTO_QUANTIZER_MAPPING):
        raise UserError(
            f"{folder} is quantized by {method}, which transformers does not know: it would "
            "ignore that and load other weights. Install what brings the method, or update"
        )
    return method


def _by_transformers(folder: Path, dtype: Any) -> Any:  # noqa: ANN401 - a torch.dtype, a model
    """Load with the plain from_pretrained that every downloader uses."""
    import transformers
    from safetensors import SafetensorError

    auto: Any = transformers.AutoModelForCausalLM
    warnings = Warnings()
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(warnings)
    try:
        model, info = auto.from_pretrained(
            folder,
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that the report names them, and so do we
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        said = "\n".join([str(error), *warnings.texts])
        raise UserError(f"transformers cannot load {folder}: {said}") from error
    finally:
        logger.removeHandler(warnings)
    _refuse_gaps(folder, info)
    return model


def _refuse_gaps(folder: Path, info: Mapping[str, Any]) -> None:
    """Raise UserError when a weight was missing, left over, or of another shape."""
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        names = sorted(map(str, info.get(what) or ()))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"{folder} did not load whole; {what.replace('_', ' ')}: "
                f"{', '.join(names[:3])}{more}. transformers would use random weights or drop "
                "some, so nothing was measured.\nFetch the model again, or ask its maker for "
                "files that belong together"
            )


def _unpacked(folder: Path, quantization: Mapping[str, Any], dtype: Any) -> Any:  # noqa: ANN401
    """Build a dense model from a packed folder with the format's own unpack."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    del config.quantization_config
    architecture: Any = getattr(transformers, config.architectures[0])
    model, info = architecture.from_pretrained(
        None,
        config=config,
        state_dict=dense_tensors(folder, quantization, dtype),
        dtype=dtype,
        output_loading_info=True,
    )
    _refuse_gaps(folder, info)
    return model


def dense_tensors(
    folder: Path,
    quantization: Mapping[str, Any],
    dtype: Any,  # noqa: ANN401 - a torch.dtype
) -> dict[str, Any]:
    """Return a packed folder's weights by name, dequantized and in the model's dtype."""
    from hubq.format import format_named
    from hubq.shards import Weights

    weights = Weights(folder)
    form = format_named(str(quantization["quant_method"]))
    modules = {name.removesuffix(".qweight") for name in weights.info if name.endswith(".qweight")}
    dense = {}
    for name in weights.info:
        module = name.rpartition(".")[0]
        if module not in modules:
            dense[name] = weights.read(name)
        elif name.endswith(".qweight"):
            parts = [each for each in weights.info if each.startswith(module + ".")]
            packed = {each: weights.read(each) for each in parts}
            dense |= {each: packed[each] for each in parts if each == f"{module}.bias"}
            dense[f"{module}.weight"] = form.unpack(module, packed, quantization).dequantize()
    return {name: tensor.to(dtype) for name, tensor in dense.items()}


def _first_forward(model: Any, folder: Path) -> None:  # noqa: ANN401
    """Run two tokens through: compressed-tensors unpacks itself here, and NaN weights show."""
    import torch

    from hubq.evaluate.finite import refuse_non_finite

    ids = torch.tensor([[0, 1]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits
    if not logits.isfinite().all():
        refuse_non_finite(model, ids, folder)
