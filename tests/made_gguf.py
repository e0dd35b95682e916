"""GGUF files as llama.cpp's converter writes them, made with the gguf library alone."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
from gguf import GGMLQuantizationType, GGUFWriter, quants
from numpy.typing import NDArray
from safetensors.torch import load_file

HIDDEN, WIDE, VOCABULARY, HEADS = 64, 128, 259, 4
SHAPES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (HIDDEN // 2, HIDDEN),
    "attn_v": (HIDDEN // 2, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (WIDE, HIDDEN),
    "ffn_up": (WIDE, HIDDEN),
    "ffn_down": (HIDDEN, WIDE),
}
Array = NDArray[Any]
Edit = Callable[[dict[str, Array]], object]
SIZES = {
    "block_count": 1,
    "context_length": 512,
    "embedding_length": HIDDEN,
    "feed_forward_length": WIDE,
    "attention.head_count": HEADS,
    "attention.head_count_kv": HEADS // 2,
    "vocab_size": VOCABULARY,
}
NUMBERS = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0}


def write_gguf(
    path: Path,
    *,
    tied: bool = True,
    edit: Edit = lambda tensors: None,
    said: Mapping[str, object] | None = None,
    together: int = 0,
) -> Path:
    """Write a random Llama of one block with a token for each byte and one for ll.

    `edit` changes the tensors, `said` the metadata; None takes a key out. Where only so many
    tensors lie `together` in a part, the first one is returned.
    """
    writer = GGUFWriter(path, "llama", split_max_tensors=together)
    writer.add_license("apache-2.0")
    writer.add_languages(["en", "nn"])
    metadata: dict[str, object] = {f"llama.{key}": each for key, each in (SIZES | NUMBERS).items()}
    _add(writer, metadata | tokenizer() | dict(said or {}))
    tensors = random_tensors(tied=tied)
    edit(tensors)
    return _finish(writer, tensors)


def tokenizer() -> dict[str, object]:
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [*alphabet, "ll", "<|begin|>", "<|end|>"],
        "tokenizer.ggml.token_type": [1] * (len(alphabet) + 1) + [3, 3],
        "tokenizer.ggml.merges": ["l l"],
        "tokenizer.ggml.bos_token_id": 257,
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
    }


def random_tensors(*, tied: bool) -> dict[str, Array]:
    random = numpy.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, HIDDEN),
        "output_norm.weight": (HIDDEN,),
        "blk.0.attn_norm.weight": (HIDDEN,),
        "blk.0.ffn_norm.weight": (HIDDEN,),
        **{f"blk.0.{name}.weight": shape for name, shape in SHAPES.items()},
        **({} if tied else {"output.weight": (VOCABULARY, HIDDEN)}),
    }
    return {
        name: random.normal(0, 0.02, shape).astype(numpy.float32) for name, shape in shapes.items()
    }


def gguf_of(
    folder: Path,
    path: Path,
    *,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    edit: Edit = lambda tensors: None,
    said: Mapping[str, object] | None = None,
) -> Path:
    """Write a folder of safetensors as GGUF, its matrices as `kind`."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    config = json.loads((folder / "config.json").read_text())
    family = config["model_type"].replace("mistral", "llama")
    which = next(key for key, name in MODEL_ARCH_NAMES.items() if name == family)
    names = get_tensor_name_map(which, config["num_hidden_layers"])
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        ours = tensor.float().numpy()
        if family == "llama" and ".q_proj" in name:
            ours = permuted(ours, config["num_attention_heads"])
        if family == "llama" and ".k_proj" in name:
            ours = permuted(ours, config["num_key_value_heads"])
        tensors[str(names.get_name(name, (".weight", ".bias")))] = ours
    rope = config["rope_parameters"]
    if rope["rope_type"] == "llama3":
        tensors["rope_freqs.weight"] = factors(rope, config["head_dim"])
    edit(tensors)
    sizes = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": rope["rope_theta"],
    }
    tokens = tokenizer() | {
        "tokenizer.ggml.tokens": [*tokenizer()["tokenizer.ggml.tokens"], "<|pad|>"],  # type: ignore[misc]
        "tokenizer.ggml.token_type": [1] * 257 + [3, 3, 3],
    }
    writer = GGUFWriter(path, family)
    metadata: dict[str, object] = {f"{family}.{key}": value for key, value in sizes.items()}
    _add(writer, metadata | tokens | dict(said or {}))
    return _finish(writer, tensors, kind)


def permuted(weight: Array, heads: int) -> Array:
    """Interleave the halves of each head's rows, as convert_hf_to_gguf.py does."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def factors(rope: Mapping[str, Any], head: int) -> Array:
    """Return what convert_hf_to_gguf.py stores of Llama 3.1's scaling, loop for loop."""
    found = []
    for place in range(0, head, 2):
        length = 2 * numpy.pi * rope["rope_theta"] ** (place / head)
        context = rope["original_max_position_embeddings"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        if length < context / high:
            found.append(1.0)
        elif length > context / low:
            found.append(rope["factor"])
        else:
            smooth = (context / length - low) / (high - low)
            found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return numpy.array(found, numpy.float32)


def _add(writer: GGUFWriter, metadata: Mapping[str, object]) -> None:
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)


def _finish(
    writer: GGUFWriter,
    tensors: Mapping[str, Array],
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
) -> Path:
    for name, tensor in tensors.items():
        if tensor.ndim == 1 or kind == GGMLQuantizationType.F32:
            writer.add_tensor(name, numpy.ascontiguousarray(tensor))
        else:
            writer.add_tensor(name, quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert writer.path is not None
    parts = sorted(writer.path.parent.glob(f"{writer.path.stem}-00001-of-*.gguf"))
    return (parts or [writer.path])[0]
