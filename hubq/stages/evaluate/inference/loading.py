"""Load a folder as a downloader would, and prove that all of its weights arrived.

transformers only warns when it doesn't know a quantization method, and leaves random weights where
a file lacks a tensor. Here each of these is an error.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hubq.errors import UserError
from hubq.formats.foreign.folder import FAULTS, QuantizedFolder
from hubq.formats.foreign.metadata import BESIDE, quantization_of
from hubq.machine.engines import missing_packages
from hubq.machine.files import read_object
from hubq.records.run_folder import ADAPTER, ADAPTER_CONFIG
from hubq.sources.architecture import family_of
from hubq.sources.folder import refuse_adapter
from hubq.sources.shards import Weights
from hubq.sources.skeleton import without_weights
from hubq.sources.source import AUTO_ROUND, BY_HEADER
from hubq.sources.vision import sees, vision_family_of
from hubq.stages.adapt.adapter_files import attach
from hubq.stages.convert.files import LEFT_OUT, superfluous
from hubq.stages.evaluate.inference.blocks import BlocksOnDisk, round_inputs
from hubq.stages.evaluate.inference.decoder import ON_DISK
from hubq.stages.evaluate.inference.dense_weights import DenseWeights
from hubq.stages.evaluate.inference.nan_check import refuse_non_finite

UNPACKED = frozenset({"gptq", "awq", *AUTO_ROUND})  # by hubq, where transformers can't
# What reads a folder when it is not transformers alone.
LOADERS = {"hubq": "transformers with hubq's quantizer"}
BY_BLOCKS = "hubq, block by block"


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


def load(folder: Path, *, device: str, dtype: str, by_blocks: bool = False) -> Loaded:
    """Load a model's folder; raise UserError unless every tensor found its place.

    By blocks, these stay on the disk until they run, and whatever is packed is read by hubq. An
    adapter in the folder `adapter` belongs to the model.
    """
    refuse_adapter(folder)
    method, element = _method(folder), getattr(torch, dtype)
    if by_blocks:
        if method:
            _refuse_spoilt_scales(folder)
        return _adapted(Loaded(_by_blocks(folder, method, device, element), BY_BLOCKS), folder)
    if reason := _why_not_transformers(folder, method):
        model, loader = _unpacked(folder, element), f"hubq's own {method} reader ({reason})"
    else:
        model, loader = _by_transformers(folder, element), LOADERS.get(method, "transformers")
    if method:
        _refuse_spoilt_scales(folder)
    loaded = _adapted(Loaded(model.to(device).eval(), loader), folder)
    _first_forward(loaded.model, folder)
    return loaded


def _adapted(loaded: Loaded, folder: Path) -> Loaded:
    """Add the adapter that lies in a model's folder, where there is one."""
    inside = folder / ADAPTER
    if not (inside / ADAPTER_CONFIG).is_file():
        return loaded
    attach(loaded.model, inside)
    return loaded._replace(loader=f"{loaded.loader}; the adapter by hubq")


def _method(folder: Path) -> str:
    """Return how a folder is quantized, empty where it isn't; refuse what nobody here knows."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    said = read_object(folder / "config.json").get("quantization_config") or {}
    method = said.get("quant_method", "") if isinstance(said, dict) else None
    if not isinstance(method, str):
        raise UserError(
            f"{folder / 'config.json'} names no method in its quantization_config: fetch the model "
            "again, or look for another version of it"
        )
    if not said and any((folder / name).is_file() for name in BESIDE):
        method = quantization_of(folder, {})["quant_method"]
    loadable = {name.split("_")[0] for name in AUTO_QUANTIZER_MAPPING}  # bitsandbytes_4bit
    if method and method not in {*loadable, *AUTO_QUANTIZER_MAPPING, *AUTO_ROUND}:
        raise UserError(
            f"{folder} is quantized by {method}, which transformers does not know: it would "
            "ignore that and load other weights. Install the package that provides the method, "
            "or update transformers"
        )
    return method


def _refuse_spoilt_scales(folder: Path) -> None:
    """Refuse scales that are no numbers: a single one may spoil outputs that no probe shows."""
    weights = Weights(folder)
    for name, info in weights.info.items():
        kind = name.rpartition(".")[2]
        is_scale = ("scale" in kind or "absmax" in kind) and info.dtype in BY_HEADER
        if is_scale and not weights.finite(name):
            raise UserError(f"{folder} holds NaN or inf in {name}: fetch the model again")


def _why_not_transformers(folder: Path, method: str) -> str | None:
    """Say why hubq unpacks a folder itself, or None where transformers does."""
    if method not in UNPACKED:
        return None
    if missing := missing_packages(method):
        return f"{' and '.join(missing)} not installed"
    if method in AUTO_ROUND:
        return "its layout is that of gptq or awq"
    if "quantization_config" not in read_object(folder / "config.json"):
        return (
            "transformers looks for the quantization settings in config.json, "
            "but they are not there"
        )
    if superfluous(QuantizedFolder(folder)):
        return "transformers has no place for its biases, which are all zero"
    return None


def _by_transformers(folder: Path, dtype: Any) -> Any:  # noqa: ANN401 - a torch.dtype, a model
    """Load with the plain from_pretrained that every downloader uses."""
    import transformers

    with_eyes = sees(folder)
    names = ("AutoModelForCausalLM", "AutoModelForImageTextToText")
    auto: Any = getattr(transformers, names[with_eyes])
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
    except FAULTS as error:
        if "custom code" in str(error):
            raise UserError(
                f"{folder} is a model with code of its own (auto_map in config.json), "
                "and hubq does not run code from models; use one of an architecture "
                "that transformers knows"
            ) from error
        said = "\n".join([_said(error), *warnings.texts])
        raise UserError(f"transformers cannot load {folder}: {said}") from error
    finally:
        logger.removeHandler(warnings)
    _refuse_gaps(folder, info)
    if with_eyes:
        _of_one_dtype(model, dtype)
    _unpack_four_bit_floats(model, dtype)
    return model


def _of_one_dtype(model: Any, dtype: Any) -> None:  # noqa: ANN401 - a torch.dtype, a model
    """Let all that isn't packed be of the dtype asked for.

    Beside bitsandbytes transformers leaves weights in their file's, and the norms of what sees,
    unlike a decoder's, stop at inputs of another.
    """
    for name, each in model.named_parameters():
        is_packed = each.dtype.itemsize == 1 or name.endswith("_global_scale")
        if each.is_floating_point() and not is_packed:
            each.data = each.data.to(dtype)


def _unpack_four_bit_floats(model: Any, dtype: Any) -> None:  # noqa: ANN401 - torch.dtype, a model
    """Let weights be of a dtype that compressed-tensors unpacks to bfloat16 beside any other."""
    if dtype == torch.bfloat16:
        return  # the first forward pass unpacks them
    packed = [module for module in model.modules() if _is_four_bit_float(module)]
    if packed:
        model.hf_quantizer.compressor.decompress_model(model)
    for module in packed:
        module.weight.data = module.weight.data.to(dtype)


def _is_four_bit_float(module: Any) -> bool:  # noqa: ANN401 - a module, perhaps compressed
    """Tell whether a module has weights that compressed-tensors unpacks from such floats."""
    weights = getattr(getattr(module, "quantization_scheme", None), "weights", None)
    return weights is not None and (weights.type, weights.num_bits) == ("float", 4)


def _said(error: BaseException) -> str:
    """Return what an error says; a bare number or name needs its kind beside it."""
    is_sentence = isinstance(error, OSError | ValueError | ImportError | RuntimeError)
    return str(error) if is_sentence else f"{type(error).__name__}: {error}"


def _refuse_gaps(folder: Path, info: Mapping[str, Any]) -> None:
    """Raise UserError when a weight was missing, left over, or of another shape."""
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        names = sorted(map(str, info.get(what) or ()))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"{folder} did not load completely; {what.replace('_', ' ')}: "
                f"{', '.join(names[:3])}{more}. transformers would use random weights or drop "
                "some, so nothing was measured. If hubq made this folder, make it again with "
                "--fresh; if not, download it again or ask its maker"
            )


def _unpacked(folder: Path, dtype: Any) -> Any:  # noqa: ANN401 - a torch.dtype, a model
    """Build a dense model from a packed folder with the format's own unpack."""
    import transformers

    weights, said = DenseWeights(folder, _method(folder)), read_object(folder / "config.json")
    fields = {key: value for key, value in said.items() if key not in LEFT_OUT}
    try:
        config = transformers.AutoConfig.for_model(**fields)
        architecture: Any = getattr(transformers, said["architectures"][0])
        if vision_family_of(said) is None:
            architecture = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        model, info = architecture.from_pretrained(
            None,
            config=config,
            state_dict={name: weights.read(name).to(dtype) for name in weights},
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # so that the report names them, and so do we
        )
    except FAULTS as error:
        raise UserError(f"transformers cannot load {folder}: {_said(error)}") from error
    _refuse_gaps(folder, info)
    return model


def _by_blocks(folder: Path, method: str, device: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Build a model whose blocks stay on the disk."""
    weights, config = DenseWeights(folder, method), read_object(folder / "config.json")
    family = family_of(config)
    try:
        model = without_weights({key: each for key, each in config.items() if key not in LEFT_OUT})
        if method == "compressed-tensors" and not weights.rounds:
            round_inputs(model, folder, config["quantization_config"])
    except FAULTS as error:
        raise UserError(f"transformers cannot load {folder}: {_said(error)}") from error
    _refuse_gaps(folder, _gaps(model, weights))
    model.config.name_or_path = str(folder)
    rotary = model.get_decoder().rotary_emb
    model.get_decoder().rotary_emb = type(rotary)(model.config).to(device)
    setattr(
        model,
        ON_DISK,
        BlocksOnDisk(model, family, weights, torch.empty(0, device=device, dtype=dtype)),
    )
    return model.eval()


def _gaps(model: Any, weights: DenseWeights) -> dict[str, list[str]]:  # noqa: ANN401
    """Compare the tensors of a folder with those of a model, as transformers reports it."""
    tied = model.all_tied_weights_keys
    wanted = {name: each for name, each in model.state_dict().items() if name not in tied}
    there = {*weights} - {*tied}
    plain = weights.others & wanted.keys()
    return {
        "missing_keys": list(wanted.keys() - there),
        "unexpected_keys": list(there - wanted.keys()),
        "mismatched_keys": [
            name for name in plain if weights.weights.info[name].shape != wanted[name].shape
        ],
    }


def _first_forward(model: Any, folder: Path) -> None:  # noqa: ANN401
    """Run two tokens through: compressed-tensors unpacks itself here, and NaN weights show."""
    ids = torch.tensor([[0, 1]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits
    if not logits.isfinite().all():
        refuse_non_finite(model, ids, folder)
