"""Configs that contradict their model's tensors, themselves, or what a config is: seeded."""

from collections.abc import Mapping
from random import Random
from typing import Any

STRANGE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 5, 7, 16, 64, 65, 1 << 30, 1 << 62, 10**30, 0.5, -0.5, 1e400,
    float("nan"), "", "1", "eager", "nonsense", [], {}, [1], ["full_attention"], {"rope_type": "x"},
    {"rope_type": "llama3"}, {"rope_type": "yarn", "factor": 0}, {"rope_theta": 0},
    {"rope_type": "linear", "factor": "2"}, ["sliding_attention"] * 2,
]  # fmt: skip
KEYS = [
    "architectures", "model_type", "num_hidden_layers", "hidden_size", "intermediate_size",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "hidden_act",
    "rms_norm_eps", "rope_theta", "rope_parameters", "rope_scaling", "tie_word_embeddings",
    "attention_bias", "mlp_bias", "max_position_embeddings", "sliding_window", "layer_types",
    "use_sliding_window", "max_window_layers", "attention_dropout", "pretraining_tp", "dtype",
    "torch_dtype", "pad_token_id", "bos_token_id", "eos_token_id", "initializer_range",
    "partial_rotary_factor", "attn_implementation", "auto_map", "use_cache", "id2label",
    "num_labels", "rope_local_base_freq", "chunk_size_feed_forward", "output_attentions",
    "return_dict", "tie_encoder_decoder", "problem_type", "_attn_implementation", "_name_or_path",
    "transformers_version", "base_model_tp_plan", "no_such_field",
]  # fmt: skip


def contradicting(config: Mapping[str, Any], random: Random) -> dict[str, Any]:
    """Return a config with one to two fields of another value, or without them."""
    changed = dict(config)
    for _ in range(random.choice([1, 1, 1, 2])):
        key = random.choice(KEYS[:21] if random.random() < 0.7 else KEYS)
        if random.random() < 0.1:
            changed.pop(key, None)
        elif isinstance(config.get(key), int) and random.random() < 0.5:
            changed[key] = random.choice([2 * config[key], config[key] // 2, config[key] + 1])
        else:
            changed[key] = random.choice(STRANGE)
    return changed
