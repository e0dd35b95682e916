"""The families that hubq knows, and what becomes of each tensor that a model's files hold.

A family says which linears share an input, and which module writes that input: nothing else in hubq
knows the names inside a decoder block.

Tools save the same model under other names: inside a compiled or a distributed module, without the
prefix of the body, a tied pair by its head alone. `account` gives each tensor the name that
transformers gives it, and leaves none out without a word: what the language model has no place for
is said, or is refused by `hubq/stages/plan/model_check.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hubq.errors import UserError, did_you_mean
from hubq.runtime.headers import LEGACY, few
from hubq.sources.tensor_headers import TensorInfo

WRAPPERS = ("_orig_mod.", "module.")  # torch.compile's; DistributedDataParallel's and DeepSpeed's
VALUE_HEAD = "v_head."  # TRL's, which training alone needs


@dataclass(frozen=True)
class InputGroup:
    """Linears of one decoder block that share an input, by their names inside the block."""

    linears: tuple[str, ...]
    writer: str  # the module whose output, channel by channel, is this input up to a nonlinearity
    writer_is_norm: bool


@dataclass(frozen=True)
class Family:
    """What the walk must know of a family of decoders."""

    title: str
    groups: tuple[InputGroup, ...]  # in the order in which data reaches them
    blocks: str = "model.layers"
    embeddings: str = "model.embed_tokens"
    norm: str = "model.norm"
    head: str = "lm_head"

    def linears(self, blocks: int) -> Iterator[str]:
        """Yield the full names of the linears of so many blocks."""
        for number in range(blocks):
            for group in self.groups:
                for linear in group.linears:
                    yield f"{self.blocks}.{number}.{linear}"


_LLAMA_GROUPS = (
    InputGroup(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "input_layernorm", True
    ),
    InputGroup(("self_attn.o_proj",), "self_attn.v_proj", False),
    InputGroup(("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm", True),
    InputGroup(("mlp.down_proj",), "mlp.up_proj", False),
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


@dataclass(frozen=True)
class Account:
    """A model's config and tensors under the names that its architecture has."""

    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    stored: Mapping[str, str]  # of each tensor, the name in its file
    usual: bool  # transformers makes the same of config and files as they are
    remarks: tuple[str, ...]  # what is not as in the files, a sentence each


def account(config: Mapping[str, Any], found: Mapping[str, TensorInfo]) -> Account:
    """Name the tensors of a known family as transformers does; those of others stay as they are."""
    named, remarks = _named(config)
    family = FAMILIES.get((named.get("architectures") or [""])[0])
    if family is None:
        return Account(config, found, {name: name for name in found}, True, ())
    dropped = [name for name in found if name.endswith(LEGACY)]
    heads = [name for name in found if _unwrapped(name).startswith(VALUE_HEAD)]
    names = {name: _unwrapped(name) for name in found if name not in {*dropped, *heads}}
    names = _tied(_prefixed(names, family), named, family)
    _refuse_collisions(names)
    changed = [name for name, full in names.items() if name != full]
    if changed:
        remarks += (f"{few(changed)} are read as {few([names[each] for each in changed])}",)
    if heads:
        remarks += (f"{few(heads)} are a head for training, which the model does not use",)
    return Account(
        config=named,
        tensors={full: found[name] for name, full in names.items()},
        stored={full: name for name, full in names.items()},
        usual=named == config and not changed and not heads,
        remarks=remarks,
    )


def _named(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Name the language model where a config names its body: LlamaModel is LlamaForCausalLM's."""
    first, *_ = config.get("architectures") or [""]
    whole = first.removesuffix("Model") + "ForCausalLM"
    if not first.endswith("Model") or whole not in FAMILIES:
        return config, ()
    return {**config, "architectures": [whole]}, (f"{first} is read as {whole}",)


def _unwrapped(name: str) -> str:
    """Take away what wraps a module while it is trained."""
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    found = name.replace("._orig_mod.", ".")
    return found if found == name and not name.startswith(WRAPPERS) else _unwrapped(found)


def _prefixed(names: Mapping[str, str], family: Family) -> dict[str, str]:
    """Put the body's tensors where the whole model has them, if the body was saved alone."""
    body, _, blocks = family.blocks.partition(".")
    whole = any(full.startswith(f"{body}.") for full in names.values())
    if whole or not any(full.startswith(f"{blocks}.") for full in names.values()):
        return dict(names)
    head = f"{family.head}."
    return {
        name: full if full.startswith(head) else f"{body}.{full}" for name, full in names.items()
    }


def _tied(names: dict[str, str], config: Mapping[str, Any], family: Family) -> dict[str, str]:
    """Let a head that was saved alone be the embeddings that it is tied to."""
    head, embeddings = f"{family.head}.weight", f"{family.embeddings}.weight"
    alone = head in names.values() and embeddings not in names.values()
    if not alone or not config.get("tie_word_embeddings"):
        return names
    return {name: embeddings if full == head else full for name, full in names.items()}


def _refuse_collisions(names: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for name, full in names.items():
        if full in seen:
            raise UserError(
                f"the model's files hold {seen[full]} and {name}, which are both {full}, so hubq "
                "can't tell which one is right; save the model again without one of them"
            )
        seen[full] = name


def blocks_in(tensors: Mapping[str, TensorInfo], family: Family) -> Iterator[int]:
    """Yield the number of the block that each tensor of a block lies in."""
    start = f"{family.blocks}."
    for name in tensors:
        number = name.removeprefix(start).partition(".")[0]
        if name.startswith(start) and number.isascii() and number.isdigit() and len(number) < 9:
            yield int(number)
