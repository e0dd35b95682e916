"""What a GGUF file's metadata says of the model, its rotary positions too, as config.json says it.

Each number is bounded before anything is built from it, and what transformers' classes can't
express is refused: a model that ran without it would be another one.

llama.cpp's converter writes Llama 3.1's scaling as one factor for each frequency (`rope_freqs`),
by which it is divided, and not the four numbers that these follow from. They are found again by
trying those that models have, and taken only if they give the same factors. Linear scaling and
YaRN stand in the metadata; both sides compute them alike (llama.cpp's `rope_yarn` and
`yarn_corr_dims`, transformers' `_compute_yarn_parameters` and `linear`).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubq.errors import UserError
from hubq.sources.gguf.files import Gguf

FACTORS = "rope_freqs.weight"
LOW, HIGH = 1.0, 4.0  # wavelengths in a context below and above which all is or nothing is scaled
CONTEXTS = (8192, *(1 << power for power in range(6, 18)))
CLOSE = 5e-6  # relative; factors were computed in float32
YARN = ("type", "factor", "original_context_length", "finetuned")
F32 = 0  # of GGMLQuantizationType
# By GGUF's name of an architecture: that of transformers' config. All else in GGUF is refused, as
# hubq has no second way to read its tensors, with which to prove the first.
CLASSES = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config"}
LARGEST = 1 << 24  # of a size, an id or a number of positions
# Keys that change what is computed, and the values at which they change nothing.
BENDING: Mapping[str, tuple[object, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.logit_softcapping": (0.0,),
    "attention.scale": (0.0,),
    "embedding_scale": (0.0, 1.0),
    "expert_count": (0,),
    "final_logit_softcapping": (0.0,),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "use_parallel_residual": (False,),
}
WAY_OUT = "Name the model by its Hub id or a folder of safetensors instead."


def rope_parameters(gguf: Gguf, architecture: str, theta: float, head: int) -> dict[str, Any]:
    """Return config.json's rope_parameters; raise UserError for a scaling that it can't express.

    `theta` is the base of the frequencies, `head` the width of a head.
    """
    start = f"{architecture}.rope.scaling."
    said = {
        key.removeprefix(start): value
        for key, value in gguf.metadata.items()
        if key.startswith(start)
    }
    said.setdefault("factor", gguf.metadata.get(f"{architecture}.rope.scale_linear", 0.0))
    kind, factor = said.get("type"), said["factor"]
    plain = {"rope_type": "default", "rope_theta": theta}
    is_scaled = kind != "none" and factor not in (0, 1)
    if FACTORS in gguf.tensors:
        if is_scaled:
            raise _error(gguf, f"both {FACTORS} and a scaling of {factor} in its metadata")
        return plain | _from_factors(gguf, theta, head)
    if not is_scaled and kind in (None, "none", "linear"):
        return plain
    if type(factor) is not float or not 0 < factor < math.inf:
        raise _error(gguf, f"a scaling of its positions by {factor!r}")
    if kind in (None, "linear"):  # llama.cpp takes a scaling without a type for linear
        return plain | {"rope_type": "linear", "factor": factor}
    context = said.get("original_context_length")
    if kind == "yarn" and not said.keys() - set(YARN) and type(context) is int and context > 0:
        yarn = {"rope_type": "yarn", "factor": factor}
        return plain | yarn | {"original_max_position_embeddings": context}
    others = ", ".join(sorted(said.keys() - {"type", "factor"}))
    raise _error(gguf, f"a scaling {kind!r} of its positions with {others or 'nothing else'}")


def _error(gguf: Gguf, what: str) -> UserError:
    return UserError(
        f"{gguf.path} has {what}, for which hubq knows no equivalent in transformers: without it, "
        "this would be a different model.\n"
        "Name the model by its Hub id or a folder of safetensors instead."
    )


def _from_factors(gguf: Gguf, theta: float, head: int) -> dict[str, Any]:
    """Return what gives the factors of a file."""
    tensor = gguf.tensors[FACTORS]
    if tensor.shape != (head // 2,) or tensor.kind != F32:
        raise _error(gguf, f"{FACTORS} of the shape {tensor.shape} for heads of {head}")
    stored = np.fromfile(tensor.path, "<f4", head // 2, offset=tensor.begin).astype(np.float64)
    factor = float(stored.max())
    if not (stored.min() > 0 and factor < math.inf):
        raise _error(gguf, f"{FACTORS} that are not numbers above 0")
    if np.all(stored == factor):
        return {} if factor == 1 else {"rope_type": "linear", "factor": factor}
    for context in _contexts(gguf):
        if np.allclose(llama3_factors(theta, head, factor, context), stored, CLOSE, 0):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": context,
            }
    raise _error(gguf, f"{FACTORS} ({stored.min():g} to {factor:g}) that are not Llama 3's")


def _contexts(gguf: Gguf) -> Iterator[int]:
    """Yield lengths that a model may have been trained with first, the likeliest first."""
    yield from (value for key, value in gguf.metadata.items() if _is_length(key, value))
    yield from CONTEXTS


def _is_length(key: str, value: object) -> bool:
    return key.endswith("rope.scaling.original_context_length") and type(value) is int and value > 0


def llama3_factors(theta: float, head: int, factor: float, context: int) -> NDArray[np.float64]:
    """Return what each frequency is divided by, (head / 2,): transformers' and llama.cpp's rule."""
    wavelength = 2 * math.pi * theta ** (np.arange(0, head, 2) / head)
    smooth = np.clip((context / wavelength - LOW) / (HIGH - LOW), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def config_of(gguf: Gguf) -> Any:  # noqa: ANN401 - a config of transformers
    """Return the model's config; raise UserError for metadata that make none."""
    import transformers

    known = _Known(gguf)
    _refuse_bent(known)
    _require_tokenizer(known)
    heads, width = known.size("attention.head_count"), known.size("embedding_length")
    head = _head_size(known, width, heads)
    kept = known.size("attention.head_count_kv", heads)
    tokens = len(known.metadata["tokenizer.ggml.tokens"])
    rows = known.size("vocab_size", tokens)
    if tokens > rows:
        raise known.error(f"{tokens} tokens and has {rows} embeddings")
    if heads % kept or head % 2:
        raise known.error(f"{heads} heads of {head} and {kept} for keys, which don't fit together")
    return getattr(transformers, CLASSES[known.architecture])(
        vocab_size=rows,
        hidden_size=width,
        intermediate_size=known.size("feed_forward_length"),
        num_hidden_layers=_blocks(known),
        num_attention_heads=heads,
        num_key_value_heads=kept,
        head_dim=head,
        max_position_embeddings=known.size("context_length"),
        rms_norm_eps=known.positive("attention.layer_norm_rms_epsilon"),
        rope_parameters=rope_parameters(
            gguf, known.architecture, known.positive("rope.freq_base", 10000.0), head
        ),
        tie_word_embeddings="output.weight" not in gguf.tensors,
        **_special_ids(known),
    )


class _Known:
    """The metadata of one architecture, with errors that name the file."""

    def __init__(self, gguf: Gguf) -> None:
        self.gguf = gguf
        self.metadata = gguf.metadata
        self.architecture = str(self.metadata.get("general.architecture"))
        if self.architecture not in CLASSES:
            raise UserError(
                f"{gguf.path} has the architecture {self.architecture}; hubq "
                f"reads GGUF files of {', '.join(CLASSES)} (Mistral is llama).\n"
                f"{WAY_OUT}"
            )

    def get(self, key: str) -> Any:  # noqa: ANN401 - what stands there
        return self.metadata.get(f"{self.architecture}.{key}")

    def size(self, key: str, otherwise: int | None = None) -> int:
        """Return a whole number above 0."""
        found = self.get(key)
        found = otherwise if found is None else found
        if type(found) is not int or not 0 < found <= LARGEST:
            raise self.error(f"{self.architecture}.{key}: {_short(found)}, which is not a size")
        return found

    def positive(self, key: str, otherwise: float | None = None) -> float:
        """Return a number above 0."""
        found = self.get(key)
        found = otherwise if found is None else found
        if not isinstance(found, int | float) or not 0 < found < math.inf:
            raise self.error(
                f"{self.architecture}.{key}: {_short(found)}, which is not a number > 0"
            )
        return float(found)

    def error(self, said: str) -> UserError:
        return UserError(
            f"{self.gguf.path} says {said}.\nLook for another conversion of the model to GGUF, or "
            "name it by its Hub id or a folder of safetensors"
        )


def _short(value: object) -> str:
    return "nothing" if value is None else repr(value)[:80]


def _refuse_bent(known: _Known) -> None:
    """Refuse what transformers' classes compute otherwise."""
    for key, plain in BENDING.items():
        if known.get(key) not in (None, *plain):
            raise UserError(
                f"{known.gguf.path} says {known.architecture}.{key}: {_short(known.get(key))}, "
                f"which transformers' {CLASSES[known.architecture]} can't hold.\n"
                f"{WAY_OUT}"
            )


def _head_size(known: _Known, width: int, heads: int) -> int:
    """Return the width of a head; refuse heads that are turned in part, or have two widths."""
    head = known.size("attention.key_length", known.size("rope.dimension_count", width // heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if known.size(key, head) != head:
            raise UserError(
                f"{known.gguf.path} says {known.architecture}.{key}: {known.get(key)} for heads of "
                f"{head}, which transformers' {CLASSES[known.architecture]} can't express.\n"
                f"{WAY_OUT}"
            )
    return head


def _blocks(known: _Known) -> int:
    blocks, tensors = known.size("block_count"), len(known.gguf.tensors)
    if blocks > tensors:
        raise known.error(f"{known.architecture}.block_count: {blocks:,} and has {tensors} tensors")
    return blocks


def _require_tokenizer(known: _Known) -> None:
    """Refuse a file whose tokenizer can't be rebuilt, before its weights are read."""
    said = known.metadata
    kind, tokens = said.get("tokenizer.ggml.model"), said.get("tokenizer.ggml.tokens")
    if kind not in ("gpt2", "llama"):
        raise known.error(f"tokenizer.ggml.model: {_short(kind)}; hubq reads gpt2 and llama")
    if not isinstance(tokens, list) or not all(isinstance(each, str) for each in tokens):
        raise known.error("no list of strings as tokenizer.ggml.tokens")
    if len(set(tokens)) != len(tokens):
        raise known.error(f"{len(tokens) - len(set(tokens))} tokens twice: ids would be lost")
    lists = {"merges": str, "scores": float, "token_type": int}
    for key, element in lists.items():
        found = said.get(f"tokenizer.ggml.{key}", [])
        if not isinstance(found, list) or any(type(each) is not element for each in found):
            raise known.error(f"no list of {element.__name__} as tokenizer.ggml.{key}")
        if found and key != "merges" and len(found) != len(tokens):
            raise known.error(
                f"{len(found)} values of tokenizer.ggml.{key} for {len(tokens)} tokens"
            )
    merges = said.get("tokenizer.ggml.merges")
    if merges is None and (kind == "gpt2" or "tokenizer.ggml.scores" not in said):
        raise known.error("no tokenizer.ggml.merges, without which no text can be tokenized")
    _require_merges(known, merges or (), set(tokens))


def _require_merges(known: _Known, merges: Any, tokens: set[str]) -> None:  # noqa: ANN401
    """Refuse merges that don't join two tokens into a third."""
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= tokens:
            raise known.error(
                f"the merge {_short(merge)}, which does not join two tokens into a third"
            )


def _special_ids(known: _Known) -> dict[str, int]:
    """Return the ids of special tokens as config.json calls them."""
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    found = {}
    for ours, theirs in names.items():
        value = known.metadata.get(f"tokenizer.ggml.{ours}_token_id")
        if value is None:
            continue
        if type(value) is not int or value >= len(known.metadata["tokenizer.ggml.tokens"]):
            raise known.error(f"tokenizer.ggml.{ours}_token_id: {_short(value)}, beyond its tokens")
        found[f"{theirs}_token_id"] = value
    return found
