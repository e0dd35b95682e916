"""A model of a config without weights: what transformers builds of it, on no device."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from hubq.errors import UserError
from hubq.sources.architecture import Family

# What transformers and the libraries below it raise for a config that can't be.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


class Skeleton:
    """The model without weights: the modules to fill, and the positions they share."""

    def __init__(
        self,
        config: Mapping[str, Any],
        family: Family,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Build the modules; blocks are filled on the device, in the dtype that they run in."""
        self.family = family
        self.device = device
        self.dtype = dtype
        with understanding(config):
            model = without_weights(config)
            if type(model).__name__ != config["architectures"][0]:
                raise ValueError(
                    f"model_type {config['model_type']} belongs to another architecture"
                )
            self.config = model.config
            self.blocks: nn.ModuleList = model.get_submodule(family.blocks)
            self.norm = model.get_submodule(family.norm)
            self.rotary = type(model.model.rotary_emb)(self.config).to(device)
            tied = model.all_tied_weights_keys
            self.shapes = {  # of all tensors of the model; of a tied pair the embeddings alone
                name: tuple(each.shape)
                for name, each in model.state_dict().items()
                if name not in tied
            }

    def require_running(self) -> None:
        """Raise UserError for a config by which a block can't compute, found out without weights.

        It runs two tokens through the first block, on no device and of no values.
        """
        hidden = torch.empty(1, 2, self.config.hidden_size, device="meta")
        with understanding(self.config.to_dict()), torch.no_grad():
            places = self.positions(2, torch.float32)
            if not all(place.isfinite().all() for place in places):
                raise ValueError("its rotary positions are not finite")
            for index in range(len(self.blocks)):
                self.mask(index, 2)
            self.blocks[0](
                hidden,
                position_embeddings=tuple(place.to("meta") for place in places),
                attention_mask=None,
            )

    @cache  # noqa: B019 - a skeleton lives as long as its walk
    def positions(self, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the rotary cosines and sines of a window, (1, length, head) each."""
        ids = torch.arange(length, device=self.device)[None]
        probe = torch.empty(1, 0, dtype=dtype, device=self.device)
        found: tuple[Tensor, Tensor] = self.rotary(probe, ids)
        return found

    def mask(self, index: int, length: int) -> Tensor | None:
        """Return the boolean mask of a sliding window that is shorter than the windows."""
        window = getattr(self.config, "sliding_window", None)
        kinds = getattr(self.config, "layer_types", None)
        if not window or window >= length or (kinds and kinds[index] != "sliding_attention"):
            return None  # plain causal attention, which needs no mask
        place = torch.arange(length, device=self.device)
        distance = place[:, None] - place[None, :]
        visible: Tensor = (distance >= 0) & (distance < window)
        return visible[None, None]


def without_weights(config: Mapping[str, Any], *, sees: bool = False) -> Any:  # noqa: ANN401 - a model of transformers
    """Build the model of a config on no device."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    fields = {key: value for key, value in config.items() if key != "quantization_config"}
    auto: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(
            AutoConfig.for_model(**fields), attn_implementation="sdpa", trust_remote_code=False
        )


@contextmanager
def understanding(config: Mapping[str, Any]) -> Iterator[None]:
    """Turn what transformers and torch raise for a contradictory config into a UserError.

    Nothing but the config is read inside, so whatever it makes them raise is the config's mistake.
    """
    try:
        yield
    except FAULTS as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"transformers can't make a {str(config.get('model_type'))[:40]} model from "
            f"config.json: {said if len(said) <= 300 else said[:297] + '...'}"
        ) from error
