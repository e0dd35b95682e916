"""Tiny random models of each family, with a tokenizer that knows every byte."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 260  # 256 bytes, two specials, rounded up

SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "tie_word_embeddings": False,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
WIDE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "rope_parameters": LLAMA3_ROPE,
}
# name -> the class of transformers' config, and what differs from SHARED
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama3.1": ("LlamaConfig", {"rope_parameters": LLAMA3_ROPE}),
    "llama3.2": ("LlamaConfig", {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    # Wide enough for groups of 128; the names are those of the models that recipes name.
    "llama3-8b": ("LlamaConfig", WIDE),
    "llama3.2-1b": ("LlamaConfig", WIDE | {"tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {"num_key_value_heads": 4}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"hidden_size": 96}),
    # Not quantized by hubq, only measured: what comes after the head.
    "granite": ("GraniteConfig", {"logits_scaling": 8.0}),
    "cohere": ("CohereConfig", {"logit_scale": 0.25, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2Config", {"final_logit_softcapping": 0.5, "sliding_window": 16}),
}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def save_tiny_model(name: str, folder: Path, **changes: object) -> None:
    """Save a random bfloat16 model with its tokenizer; `changes` go into its config."""
    import torch
    import transformers

    config_class, differs = TINY[name]
    config = getattr(transformers, config_class)(**(SHARED | differs | changes))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """Return a tokenizer with a token for each byte, so that any text comes back the same."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        chat_template=CHAT_TEMPLATE,
    )
