"""hubq: every representation, packed bit by bit; `hubq/formats/hubq.md` is the specification.

The main tensor of a module is called `weight` on purpose, and never has the dense weight's shape:
a transformers without hubq, which only warns of a quant_method that it does not know, then stops
at the shape instead of running on random weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import Embedding, Format
from hubq.formats.layouts.carried_loader import auto_map, loader_source
from hubq.formats.layouts.hubq_layout import components, rebuilt, scheme, version
from hubq.machine.engines import LOADER
from hubq.runtime.reading import unpacked
from hubq.runtime.schemes import component_names, module_entry
from hubq.sources.vision import VisionFamily
from hubq.tensors import (
    Affine,
    Codebook,
    Floating,
    Mixed,
    QuantizedTensor,
    Reordered,
    Rotated,
)


class Hubq(Format):
    """All representations, nested as deep as methods nest them."""

    name: ClassVar[str] = "hubq"
    loads_in: ClassVar[str] = "transformers with hubq, or with trust_remote_code=True alone"

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return the model's 16-bit dtype."""
        return torch.float16 if model == torch.float16 else torch.bfloat16

    def why_unsupported(self, tensor: QuantizedTensor) -> str | None:
        """Refuse quantized activations and tables that go without saying."""
        if any(each.activation_bits is not None for each in _affine_parts(tensor)):
            return "hubq files hold weights only; use format: compressed-tensors"
        if isinstance(tensor, Floating):
            return "hubq files hold no floats; use format: compressed-tensors"
        if isinstance(tensor, Codebook) and tensor.implied:
            return "hubq files hold no implicit tables; use format: bitsandbytes"
        return None

    def embeddings(self, tied: bool) -> frozenset[Embedding]:
        """Allow both; tied, they are one matrix."""
        return frozenset({"embed_tokens"}) if tied else frozenset({"embed_tokens", "lm_head"})

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Pack each component at its own width."""
        return {f"{module}.{name}": each for name, each in components(tensor)}

    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> QuantizedTensor:
        """Read one module back; raise UserError for what is not as the format wants it."""
        try:
            entry, shape = module_entry(config, module)
            names = [name for name in component_names(entry) if f"{module}.{name}" in tensors]
            own = {name: tensors[f"{module}.{name}"] for name in names}
            tensor: QuantizedTensor = rebuilt(unpacked(entry, own, shape))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{module} is not valid in a hubq file: {error}") from error
        return tensor

    def config(
        self,
        quantized: Mapping[str, QuantizedTensor],
        kept: Sequence[str],
        sees: VisionFamily | None = None,
    ) -> dict[str, Any]:
        """Return each scheme once, and the scheme and shape of each module."""
        schemes: list[dict[str, Any]] = []
        modules = {}
        known: dict[int, int] = {}  # equal sketches are one object
        for module, tensor in quantized.items():
            if id(tensor) not in known:
                own = scheme(tensor)
                if own not in schemes:
                    schemes.append(own)
                known[id(tensor)] = schemes.index(own)
            modules[module] = {"scheme": known[id(tensor)], "shape": list(tensor.shape)}
        return {
            "quant_method": self.name,
            "version": version(schemes),
            "schemes": schemes,
            "modules": modules,
        }

    def config_additions(self, sees: VisionFamily | None = None) -> dict[str, Any]:
        """Name the class that reads the repo where hubq is not installed."""
        return {"auto_map": auto_map(sees=sees is not None)}

    def extra_files(self, config: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the file with that class."""
        return {LOADER: loader_source()}


def _affine_parts(tensor: QuantizedTensor) -> list[Affine]:
    """List the affine tensors that weights consist of."""
    match tensor:
        case Affine():
            return [tensor]
        case Mixed():
            return [part for each in tensor.parts for part in _affine_parts(each)]
        case Rotated() | Reordered():
            return _affine_parts(tensor.inner)
    return []


FORMAT = Hubq()
