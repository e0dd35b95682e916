"""The families: which linears share an input, and which module writes that input.

Nothing else in hubq knows the names inside a decoder block.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubq.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Sharing:
    """Linears of one decoder block that share an input, by their names inside the block."""

    linears: tuple[str, ...]
    writer: str  # the module whose output, channel by channel, is this input up to a nonlinearity
    writer_is_norm: bool


@dataclass(frozen=True)
class Family:
    """What the walk must know of a family of decoders."""

    title: str
    groups: tuple[Sharing, ...]  # in the order in which data reaches them
    blocks: str = "model.layers"
    embeddings: str = "model.embed_tokens"
    norm: str = "model.norm"
    head: str = "lm_head"


_LLAMA_GROUPS = (
    Sharing(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "input_layernorm", True),
    Sharing(("self_attn.o_proj",), "self_attn.v_proj", False),
    Sharing(("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm", True),
    Sharing(("mlp.down_proj",), "mlp.up_proj", False),
)

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family("Llama", _LLAMA_GROUPS),
    "MistralForCausalLM": Family("Mistral", _LLAMA_GROUPS),
    "Qwen2ForCausalLM": Family("Qwen2", _LLAMA_GROUPS),
    "Qwen3ForCausalLM": Family("Qwen3", _LLAMA_GROUPS),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the family of a model's config.json; raise UserError for one that is not known."""
    names = config.get("architectures") or ["none named"]
    if names[0] not in FAMILIES:
        raise UserError(
            f"config.json says architecture {names[0]}, which hubq does not know; "
            f"{did_you_mean(names[0], FAMILIES)}"
        )
    return FAMILIES[names[0]]
