"""The transformers quantizer for the hubq format.

Before the weights are read, each quantized layer makes room for its packed tensors, and the files'
headers are compared with what the model needs: transformers itself would only warn, and make
random weights. Afterwards every layer is dequantized for good, or stays packed and is dequantized
at each call, as `packed` says.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers.quantizers import auto
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from hubq.runtime.headers import Stored, as_in_memory, files_of, headers, require_same
from hubq.runtime.modules import Packed, TiedLinear, packed_kind
from hubq.runtime.schemes import (
    FORMAT_VERSION,
    ROOT,
    Scheme,
    Shape,
    component_names,
    module_entry,
    require_version,
)

METHOD = "hubq"
KEYS = ("version", "schemes", "modules", "packed")  # of the quantization_config
# What reading raises for a scheme or a tensor that is not as the format wants it.
MISREAD = (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError)


class HubqConfig(QuantizationConfigMixin):
    """The quantization_config of a hubq repo; `HubqConfig(packed=True)` lets a model stay packed.

    `schemes` describe how weights are stored, and `modules` name each quantized layer's scheme
    (its number) and shape, as `hubq/formats/hubq.md` specifies.
    """

    def __init__(
        self,
        *,
        packed: bool = False,
        schemes: Sequence[Mapping[str, Any]] = (),
        modules: Mapping[str, Mapping[str, Any]] | None = None,
        version: int = FORMAT_VERSION,
    ) -> None:
        self.quant_method = METHOD  # type: ignore[assignment] # transformers' own are an Enum
        self.version = version
        self.packed = packed
        require_version(vars(self))
        if isinstance(schemes, Mapping | str) or not isinstance(modules or {}, Mapping):
            raise ValueError("quantization_config's schemes are a list, and its modules an object")
        self.schemes = list(schemes or ())
        self.modules = dict(modules or {})

    @classmethod
    def from_dict(
        cls,
        config_dict: Mapping[str, Any],
        return_unused_kwargs: bool = False,
        **changes: object,
    ) -> Any:  # noqa: ANN401 - the config, or what transformers' own from_dict makes of it
        """Read a repo's quantization_config; keys that the format does not know are ignored."""
        known = {key: value for key, value in config_dict.items() if key in KEYS}
        read: Any = super().from_dict  # which has no types
        return read(known, return_unused_kwargs, **changes)

    @property
    def dequantize(self) -> bool:
        """Whether the model is a plain one once it is loaded; transformers asks for this."""
        return not self.packed

    def get_loading_attributes(self) -> dict[str, Any]:
        """Return what `from_pretrained` may choose anew for a file that is already quantized."""
        return {"packed": self.packed}


class HubqQuantizer(HfQuantizer):
    """Loads hubq models; `hubq quantize` makes them, so nothing is quantized on the fly."""

    requires_calibration = True
    quantization_config: HubqConfig
    reads = FORMAT_VERSION

    @property
    def is_trainable(self) -> bool:
        """Packed weights take no gradient; a dequantized model has left the quantizer behind."""
        return False

    def is_serializable(self, *arguments: object, **options: object) -> bool:
        """Packed tensors are saved as they were read."""
        return True

    def validate_environment(
        self,
        *arguments: object,
        device_map: Any = None,  # noqa: ANN401 - whatever from_pretrained takes
        **options: object,
    ) -> None:
        """Refuse to dequantize layers that would have to lie outside of their device's memory."""
        places = set(map(str, device_map.values())) if isinstance(device_map, dict) else set()
        offloads = "disk" in places or ("cpu" in places and len(places) > 1)
        if offloads and self.quantization_config.dequantize:
            raise ValueError(
                "a hubq model with layers offloaded to the CPU or the disk must stay packed: "
                "set packed to true in its quantization_config, or give another device_map"
            )

    def param_element_size(
        self,
        model: Any,  # noqa: ANN401 - a PreTrainedModel
        param_name: str,
        param: Tensor,
    ) -> float:
        """Count the bytes of an element, so that a device map has room for dense weights."""
        module, _, component = param_name.rpartition(".")
        layer = model.get_submodule(module)
        if not isinstance(layer, Packed) or component not in layer.names or not param.numel():
            return float(param.element_size())
        if self.quantization_config.packed:
            return float(param.element_size())
        out, columns = layer.shape
        share = out * columns / len(layer.names)  # of the dense weight, for each component
        return share * layer.dtype.itemsize / param.numel()

    def _process_model_before_weight_loading(
        self,
        model: Any,  # noqa: ANN401 - a PreTrainedModel
        checkpoint_files: Sequence[str] | None = None,
        **options: object,
    ) -> Any:  # noqa: ANN401
        self.stored = headers(checkpoint_files)
        if getattr(model.config, "vision_config", None) is not None:
            named = [*model.state_dict(), *_components(vars(self.quantization_config))]
            self.stored = as_in_memory(self.stored, named)
        for name in self.quantization_config.modules:
            _make_room(model, name, vars(self.quantization_config), self.stored)
        self.tied = _tie(model)
        tensors = model.state_dict()
        needed = {name: tensors[name] for name in tensors.keys() - model.all_tied_weights_keys}
        require_same(needed, self.stored)
        return model

    def _process_model_after_weight_loading(
        self,
        model: Any,  # noqa: ANN401 - a PreTrainedModel
        **options: object,
    ) -> Any:  # noqa: ANN401
        packed = self.quantization_config.packed
        # Names only: a list of the layers would keep all packed ones until the last is replaced.
        names = [name for name, layer in model.named_modules() if isinstance(layer, Packed)]
        for name in names:
            layer = model.get_submodule(name)
            try:
                if packed:
                    layer.fields()  # proves the tensors, before anyone waits for an answer
                else:
                    _replace(model, name, layer.unpack())
            except MISREAD as error:
                file = self.stored[f"{name}.{ROOT}"].file
                raise ValueError(f"{name} in {file} is damaged: {error}") from error
        if not packed:
            _untie(model, self.tied)
        _forget_loader(model.config, packed)
        return model


def _make_room(
    model: nn.Module, name: str, config: Mapping[str, Any], stored: Mapping[str, Stored]
) -> None:
    """Put a packed layer in the place of a dense one."""
    scheme, shape, components = _entry(config, name)
    try:
        layer = model.get_submodule(name)
    except AttributeError as error:
        raise ValueError(
            f"quantization_config lists {name}, and {type(model).__name__} has no such module: "
            "load it with AutoModelForCausalLM"
        ) from error
    kind = packed_kind(layer)
    if kind is None or tuple(layer.weight.shape) != shape:  # type: ignore[arg-type]
        raise ValueError(
            f"quantization_config gives {name} the shape {shape}, and in the model it is {layer}"
        )
    tensors = {}
    for component in components:
        full = f"{name}.{component}"
        if full not in stored:
            raise ValueError(f"the tensor {full} is missing from {files_of(stored)}")
        tensors[component] = stored[full].empty(full)
    model.set_submodule(name, kind(layer, scheme, shape, tensors))


def _entry(config: Mapping[str, Any], name: str) -> tuple[Scheme, Shape, list[str]]:
    """Return a module's scheme, its shape and the names of its tensors."""
    try:
        scheme, shape = module_entry(config, name)
        return scheme, shape, list(component_names(scheme))
    except MISREAD as error:
        raise ValueError(f"quantization_config is damaged at {name}: {error}") from error


def _components(config: Mapping[str, Any]) -> list[str]:
    """List the names in memory of all packed tensors."""
    return [f"{name}.{each}" for name in config["modules"] for each in _entry(config, name)[2]]


def _tie(model: Any) -> dict[str, str]:  # noqa: ANN401 - a PreTrainedModel
    """Let output layers compute with packed embeddings that they are tied to; return the pairs."""
    tied = {}
    for target, source in list(model.all_tied_weights_keys.items()):
        name = target.rpartition(".")[0]
        embeddings = model.get_submodule(source.rpartition(".")[0])
        if not isinstance(embeddings, Packed):
            continue
        layer = model.get_submodule(name)
        if isinstance(layer, Packed):
            raise ValueError(f"{name} is tied to {source}, and quantization_config lists both")
        model.set_submodule(name, TiedLinear(layer, embeddings))
        tied[target] = model.all_tied_weights_keys.pop(target)
    return tied


def _untie(model: Any, tied: Mapping[str, str]) -> None:  # noqa: ANN401 - a PreTrainedModel
    """Give output layers the dense weight of the embeddings that they are tied to."""
    for target, source in tied.items():
        name = target.rpartition(".")[0]
        _replace(model, name, model.get_submodule(name).unpack(model.get_parameter(source)))
    model.all_tied_weights_keys |= tied


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Exchange a layer; what accelerate hung on the old one, to move its inputs, goes along."""
    if hook := getattr(model.get_submodule(name), "_hf_hook", None):
        # Found where its class is: the loader that repos carry must not ask for accelerate.
        sys.modules[type(hook).__module__].add_hook_to_module(layer, hook)
    model.set_submodule(name, layer)


def _forget_loader(config: Any, packed: bool) -> None:  # noqa: ANN401 - a PreTrainedConfig
    """Drop the repo's loader from a config whose model needs none, or that would not find it."""
    classes = getattr(config, "auto_map", None) or {}
    elsewhere = any("--" in each for each in classes.values())  # in the Hub's repo that it names
    if classes and not (packed and elsewhere):
        del config.auto_map


def register() -> None:
    """Enter the quantizer into transformers' tables, unless one that reads as much is there."""
    there = auto.AUTO_QUANTIZER_MAPPING.get(METHOD)
    if getattr(there, "reads", 0) >= FORMAT_VERSION:
        return
    auto.AUTO_QUANTIZER_MAPPING[METHOD] = HubqQuantizer
    auto.AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD] = HubqConfig
    # Only for these does from_pretrained's own quantization_config count; older versions of
    # transformers have no such list, and there config.json alone decides.
    known = getattr(auto, "LOADING_ATTRIBUTES_CONFIG_TYPES", ())
    auto.LOADING_ATTRIBUTES_CONFIG_TYPES = (*known, HubqConfig)


register()
