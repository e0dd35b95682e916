"""A config and the tensors beside it must be of one model: compared before anything is computed.

The architecture is built once without weights, after its sizes are bounded by those of the files,
and each tensor must have its place there, and each place its tensor.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from hubq.errors import UserError
from hubq.runtime.headers import bare, few
from hubq.sources.architecture import Family, blocks_in, family_of
from hubq.sources.language_part import HEAD, Whole
from hubq.sources.source import Source
from hubq.sources.tensor_headers import TensorInfo

Shapes = Mapping[str, tuple[int, ...]]

FLOATS = ("BF16", "F16", "F32", "F64")
SIZES = (
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
LAYERS = ("num_hidden_layers", "depth")  # of what sees
COUNTED = ".position_ids"  # numbers from 0 on, in old files, that transformers makes itself
BRING = "copy both again from where the model was saved"


def require_consistent(source: Source) -> None:
    """Raise UserError unless config.json and the tensors of a known family are of one model."""
    family = family_of(source.config)
    _require_floats(source.tensors)
    try:
        _require_fit(source.config, source.tensors, family)
    except UserError as mistake:
        if change := _correction(source, family):
            said = ", ".join(f"{key}: {_json(value)}" for key, value in change.items())
            raise UserError(
                f"{mistake}.\nThey fit together with {said} in config.json{_of_copy(source)}: set "
                f"that if the weights are the right ones, else {BRING}"
            ) from mistake
        raise UserError(f"{mistake}; {BRING}") from mistake
    if source.whole is not None and not source.is_part:
        _require_eyes(source.whole)


def _of_copy(source: Source) -> str:
    """Say whose config.json can be changed: nobody writes to another's repo."""
    hub = source.section.hub
    return f" of a copy that you name as the model's folder (hubq pull {hub})" if hub else ""


def gaps(wanted: Shapes, found: Shapes) -> list[str]:
    """Say which tensors are missing, have no place, or have another shape: a line each."""
    lines = []
    if missing := [name for name in wanted if name not in found]:
        lines.append(f"missing: {few(missing)}")
    if stray := [name for name in found if name not in wanted]:
        lines.append(f"without a place in the architecture: {few(stray)}")
    odd = [name for name in wanted if name in found and tuple(found[name]) != tuple(wanted[name])]
    if odd:
        first = f"{_spelled(found[odd[0]])} instead of {_spelled(wanted[odd[0]])}"
        lines.append(f"of another shape: {few(odd)} ({first})")
    return lines


def _require_floats(tensors: Mapping[str, TensorInfo]) -> None:
    odd = [name for name, info in tensors.items() if info.dtype not in FLOATS]
    if odd:
        raise UserError(
            f"the model's {few(odd)} hold {tensors[odd[0]].dtype}, which is not a 16- or 32-bit "
            "weight: name the unquantized model"
        )


def _require_fit(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], family: Family
) -> None:
    """Build the architecture of a config and compare it with the tensors."""
    from hubq.sources.skeleton import Skeleton

    _require_bounded(config, tensors, family)
    skeleton = Skeleton(config, family, torch.device("cpu"))
    tied = f"{family.head}.weight" if config.get("tie_word_embeddings") else ""
    found = {name: info.shape for name, info in tensors.items() if name != tied}
    if lines := gaps(skeleton.shapes, found):
        raise UserError(
            "\n  ".join(
                ["config.json and the model's tensors don't belong to the same model:", *lines]
            )
        )
    skeleton.require_running()


def _require_bounded(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], family: Family
) -> None:
    """Refuse sizes beyond those of the files, before anything is built from them."""
    layers = config.get("num_hidden_layers")
    there = 1 + max(blocks_in(tensors, family), default=-1)
    if type(layers) is not int or layers != there:
        raise UserError(
            f"config.json says num_hidden_layers {_json(layers)}, but its files hold {there} blocks"
        )
    filled = [max(info.shape, default=1) for info in tensors.values() if info.end > info.begin]
    for name in SIZES:
        size = config.get(name)  # transformers has a default for what is not said
        if size is not None and (type(size) is not int or not 1 <= size <= max(filled)):
            raise UserError(
                f"config.json says {name} {_json(size)}, but the files' tensors have 1 to "
                f"{max(filled)} of anything"
            )


def _require_eyes(whole: Whole) -> None:
    """Compare what sees, as config.json describes it, with the tensors that stay."""
    from hubq.sources.skeleton import understanding, without_weights

    _require_few_layers(whole)
    found = {name: info for name, info in whole.stays.items() if not name.endswith(COUNTED)}
    _require_floats(found)
    with understanding(whole.config):
        model = without_weights(whole.config, sees=True)
        if type(model).__name__ != whole.architecture:
            raise ValueError(f"its model_type belongs to {type(model).__name__}")
    own = (f"{whole.family.body}.", f"{HEAD}.")
    wanted = {
        bare(name): tuple(each.shape)
        for name, each in model.state_dict().items()
        if not name.startswith(own)
    }
    if lines := gaps(wanted, {bare(name): info.shape for name, info in found.items()}):
        raise UserError(
            "\n  ".join(
                ["config.json and the tensors of what sees don't belong to the same model:", *lines]
            )
            + f"\nThe language part can be had alone (publish.part: language); else {BRING}"
        )


def _require_few_layers(whole: Whole) -> None:
    """Refuse more layers of what sees than there are tensors, before any is built."""
    said = whole.config.get("vision_config") or {}
    for name in LAYERS:
        if name in said and (
            type(said[name]) is not int or not 0 <= said[name] <= len(whole.stays)
        ):
            raise UserError(
                f"config.json says vision_config.{name} {_json(said[name])}, but its files hold "
                f"{len(whole.stays)} tensors of what sees; {BRING}"
            )


def _correction(source: Source, family: Family) -> dict[str, Any] | None:
    """Find the change of config.json with which the tensors fit, among the usual mistakes."""
    for change in _usual_mistakes(source, family):
        try:
            _require_fit({**source.config, **change}, source.tensors, family)
        except UserError:
            continue
        return change
    return None


def _usual_mistakes(source: Source, family: Family) -> Iterator[dict[str, Any]]:
    """Yield changes of the config that the tensors suggest; each is tried before it is told."""
    embeddings = source.tensors.get(f"{family.embeddings}.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        return
    said = source.config
    sizes = {
        "num_hidden_layers": 1 + max(blocks_in(source.tensors, family), default=-1),
        "vocab_size": embeddings.shape[0],
        "hidden_size": embeddings.shape[1],
        "tie_word_embeddings": f"{family.head}.weight" not in source.tensors,
    }
    wrong = {key: value for key, value in sizes.items() if said.get(key) != value}
    yield from ({key: value} for key, value in wrong.items())
    yield {"attention_bias": True}
    yield {"mlp_bias": True}
    yield {"attention_bias": True, "mlp_bias": True}
    yield {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    if len(wrong) > 1:
        yield wrong


def _spelled(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _json(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
