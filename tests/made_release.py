"""Sound releases of one small block, headers as other tools write them, and their breaking."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hubq.sources.shards import write
from hubq.stages.lint.gather import folder_release
from hubq.stages.lint.release import Release

HIDDEN, INNER, VOCABULARY, GROUP = 64, 128, 32, 32
BLOCK = "model.layers.0"
SHAPES = {
    **{f"{BLOCK}.self_attn.{each}_proj": (HIDDEN, HIDDEN) for each in "qkvo"},
    **{f"{BLOCK}.mlp.{each}_proj": (INNER, HIDDEN) for each in ("gate", "up")},
    f"{BLOCK}.mlp.down_proj": (HIDDEN, INNER),
}
Q = f"{BLOCK}.self_attn.q_proj"
CARD = """---
license: mit
base_model: acme/Llama
base_model_relation: quantized
pipeline_tag: text-generation
library_name: transformers
---
# A model
"""
Header = tuple[torch.dtype, tuple[int, ...]]
Headers = dict[str, Header]
I32, F16, BF16 = torch.int32, torch.float16, torch.bfloat16


def gptq(out: int, columns: int, bits: int = 4) -> Headers:
    """Return the tensors of a linear in GPTQ's layout."""
    groups = columns // GROUP
    return {
        "qweight": (I32, (columns * bits // 32, out)),
        "qzeros": (I32, (groups, out * bits // 32)),
        "scales": (F16, (groups, out)),
        "g_idx": (I32, (columns,)),
    }


def awq(out: int, columns: int) -> Headers:
    """Return the tensors of a linear in AWQ's layout."""
    groups = columns // GROUP
    return {
        "qweight": (I32, (columns, out // 8)),
        "qzeros": (I32, (groups, out // 8)),
        "scales": (F16, (groups, out)),
    }


def compressed(out: int, columns: int, words: int | None = None) -> Headers:
    """Return the tensors of a linear as compressed-tensors packs it, with 4 bits unless said."""
    return {
        "weight_packed": (I32, (out, columns // 8 if words is None else words)),
        "weight_scale": (BF16, (out, columns // GROUP)),
        "weight_shape": (torch.int64, (2,)),
    }


def plain(out: int, columns: int) -> Headers:
    """Return a linear in 16 bits."""
    return {"weight": (BF16, (out, columns))}


WEIGHTS = {
    "num_bits": 4,
    "type": "int",
    "symmetric": True,
    "strategy": "group",
    "group_size": GROUP,
}
GROUPS = {"group_0": {"targets": ["Linear"], "weights": WEIGHTS, "input_activations": None}}
# By format: how a linear lies, and what the config says.
FORMS: dict[str, tuple[Callable[[int, int], Headers], dict[str, Any] | None]] = {
    "plain": (plain, None),
    "gptq": (
        gptq,
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False},
    ),
    "awq": (
        awq,
        {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"},
    ),
    "compressed-tensors": (
        compressed,
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": GROUPS,
            "ignore": ["lm_head"],
            "version": "0.18.0",
        },
    ),
}


@dataclass
class Made:
    """A release that can be broken before it is written."""

    folder: Path
    config: dict[str, Any]
    tensors: Headers
    files: dict[str, bytes] = field(default_factory=dict)

    def settings(self, **changes: object) -> None:
        """Change the quantization_config; None takes a key out."""
        said = {**self.config["quantization_config"], **changes}
        self.config["quantization_config"] = {k: v for k, v in said.items() if v is not None}

    def weights(self, **changes: object) -> None:
        """Change what the config group says of the weights."""
        group = {**GROUPS["group_0"], "weights": {**WEIGHTS, **changes}}
        self.settings(config_groups={"group_0": group})

    def card(self, **changes: object) -> None:
        """Change the card's metadata; None takes a key out."""
        import yaml

        _, head, text = CARD.split("---\n")
        said = {**yaml.safe_load(head), **changes}
        kept = {key: each for key, each in said.items() if each is not None}
        self.files["README.md"] = f"---\n{yaml.safe_dump(kept)}---\n{text}".encode()

    def put(self, module: str, parts: Headers) -> None:
        """Let a linear lie otherwise."""
        for name in [each for each in self.tensors if each.rpartition(".")[0] == module]:
            del self.tensors[name]
        self.tensors |= {f"{module}.{part}": each for part, each in parts.items()}

    def object(self, path: str, **changes: object) -> None:
        """Change a file of JSON."""
        said = {**json.loads(self.files.get(path, b"{}")), **changes}
        self.files[path] = json.dumps(said).encode()

    def write(self) -> Release:
        """Write it, and gather it as hubq lint does."""
        self.folder.mkdir()
        for path, content in self.files.items():
            (self.folder / path).write_bytes(content)
        if self.config:
            (self.folder / "config.json").write_text(json.dumps(self.config))
        tensors = {name: torch.zeros(shape, dtype=d) for name, (d, shape) in self.tensors.items()}
        if tensors:
            write(self.folder / "model.safetensors", tensors)
        return folder_release(self.folder)


def sound(folder: Path, form: str = "compressed-tensors") -> Made:
    """Return a release that no rule finds anything in, but notes."""
    lay, settings = FORMS[form]
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 1,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }
    if settings:
        config["quantization_config"] = settings
    kept = {
        "model.embed_tokens.weight": (BF16, (VOCABULARY, HIDDEN)),
        "lm_head.weight": (BF16, (VOCABULARY, HIDDEN)),
        f"{BLOCK}.input_layernorm.weight": (BF16, (HIDDEN,)),
        "model.norm.weight": (BF16, (HIDDEN,)),
    }
    made = Made(folder, config, dict(kept))
    for module, (out, columns) in SHAPES.items():
        made.put(module, lay(out, columns))
    made.files = {
        "README.md": CARD.encode(),
        "LICENSE": b"MIT License. Copyright (c) Acme\n",
        "generation_config.json": b'{"eos_token_id": 1}',
        "tokenizer.json": b'{"truncation": null, "padding": null, "model": {}}',
        "tokenizer_config.json": b"{}",
    }
    return made
