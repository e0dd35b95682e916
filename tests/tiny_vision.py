"""Tiny random models that see, of each family: a decoder, a tower, a projector, and a processor."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import SHARED, tiny_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIDE = 28  # pixels of a picture, or of a tile of one
PATCH = 14
GRID = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE]]
TOKENS = (  # after the 258 of the tokenizer
    *("<image>", "<video>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>"),
    *("<|vision_end|>", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<fake_token_around_image>"),
    *("<global-img>", "<end_of_utterance>"),
)
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
    "projection_dim": 16,
}
PIXTRAL = CLIP | {"model_type": "pixtral", "head_dim": 16}
SIGLIP = CLIP | {"model_type": "siglip_vision_model", "vision_use_head": False}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
QWEN_TOKENS = {
    "image_token_id": 260,
    "video_token_id": 261,
    "vision_start_token_id": 262,
    "vision_end_token_id": 263,
}
QWEN_SEES = {
    "depth": 2,
    "hidden_size": 64,
    "num_heads": 2,
    "patch_size": PATCH,
    "spatial_merge_size": 2,
}
# architecture, or what tells it apart -> the class of transformers' config, the text part's
# model_type and the rest
TINY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "LlavaNextForConditionalGeneration": (
        "LlavaNextConfig",
        "llama",
        {"vision_config": CLIP, "image_grid_pinpoints": GRID, "image_seq_length": 4},
    ),
    "LlavaForConditionalGeneration": (
        "LlavaConfig",
        "llama",
        {"vision_config": CLIP, "image_seq_length": 4},
    ),
    "LlavaOnevisionForConditionalGeneration": (
        "LlavaOnevisionConfig",
        "qwen2",
        {"vision_config": SIGLIP, "image_grid_pinpoints": GRID},
    ),
    "Mistral3ForConditionalGeneration": (
        "Mistral3Config",
        "mistral",
        {"vision_config": PIXTRAL, "image_token_index": 264, "spatial_merge_size": 2},
    ),
    "Pixtral": (  # LLaVA's architecture with another tower
        "LlavaConfig",
        "mistral",
        {
            "vision_config": PIXTRAL,
            "image_token_index": 264,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        },
    ),
    "Qwen2VLForConditionalGeneration": (
        "Qwen2VLConfig",
        "qwen2_vl_text",
        {"vision_config": QWEN_SEES | {"embed_dim": 32}, **QWEN_TOKENS},
    ),
    "Qwen2_5_VLForConditionalGeneration": (
        "Qwen2_5_VLConfig",
        "qwen2_5_vl_text",
        {
            "vision_config": QWEN_SEES
            | {
                "hidden_size": 32,
                "out_hidden_size": 64,
                "intermediate_size": 64,
                "window_size": 2 * SIDE,
                "fullatt_block_indexes": [1],
            },
            **QWEN_TOKENS,
        },
    ),
    "Idefics3ForConditionalGeneration": (
        "Idefics3Config",
        "llama",
        {
            "vision_config": CLIP | {"model_type": "idefics3_vision"},
            "image_token_id": 258,
            "scale_factor": 2,
        },
    ),
    "SmolVLMForConditionalGeneration": (
        "SmolVLMConfig",
        "llama",
        {
            "vision_config": CLIP | {"model_type": "smolvlm_vision"},
            "image_token_id": 258,
            "scale_factor": 2,
        },
    ),
}
CROP = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
TILES = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
FEATURES = {"patch_size": PATCH, "vision_feature_select_strategy": "default"}
PIXTRAL_PICTURES = {
    "image_processor_type": "PixtralImageProcessor",
    "size": {"longest_edge": 2 * SIDE},
    "patch_size": {"height": PATCH, "width": PATCH},
}
QWEN_PICTURES: tuple[dict[str, Any], str, dict[str, Any]] = (
    {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": PATCH,
        "min_pixels": SIDE**2,
        "max_pixels": 4 * SIDE**2,
    },
    "<|vision_start|><|image_pad|><|vision_end|>",
    {},
)
# architecture -> preprocessor_config.json, what stands for a picture, processor_config.json
PROCESSORS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "LlavaNextForConditionalGeneration": (
        {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": GRID, **CROP},
        "<image>",
        {"processor_class": "LlavaNextProcessor", "num_additional_image_tokens": 1, **FEATURES},
    ),
    "LlavaForConditionalGeneration": (
        {"image_processor_type": "CLIPImageProcessor", **CROP},
        "<image>",
        {"processor_class": "LlavaProcessor", "num_additional_image_tokens": 1, **FEATURES},
    ),
    "LlavaOnevisionForConditionalGeneration": (
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "image_grid_pinpoints": GRID,
            "size": {"height": SIDE, "width": SIDE},
        },
        "<image>",
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": 4,
            "vision_feature_select_strategy": "full",
        },
    ),
    "Pixtral": (
        PIXTRAL_PICTURES,
        "[IMG]",
        {"processor_class": "PixtralProcessor", "patch_size": PATCH, "spatial_merge_size": 1},
    ),
    "Mistral3ForConditionalGeneration": (
        PIXTRAL_PICTURES,
        "[IMG]",
        {"processor_class": "PixtralProcessor", "patch_size": PATCH, "spatial_merge_size": 2},
    ),
    "Qwen2VLForConditionalGeneration": QWEN_PICTURES,
    "Qwen2_5_VLForConditionalGeneration": QWEN_PICTURES,
    "Idefics3ForConditionalGeneration": (
        {"image_processor_type": "Idefics3ImageProcessor", **TILES},
        "<image>",
        {"processor_class": "Idefics3Processor", "image_seq_len": 1},
    ),
    "SmolVLMForConditionalGeneration": (
        {"image_processor_type": "SmolVLMImageProcessor", **TILES},
        "<image>",
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 1},
    ),
}
TEMPLATE = (  # parts of a message are texts and pictures, as in the templates of real ones
    "{%% for message in messages %%}{{ message.role }}: {%% if message.content is string %%}"
    "{{ message.content }}{%% else %%}{%% for part in message.content %%}"
    "{%% if part.type == 'image' %%}%s{%% else %%}{{ part.text }}{%% endif %%}{%% endfor %%}"
    "{%% endif %%}\n{%% endfor %%}{%% if add_generation_prompt %%}assistant: {%% endif %%}"
)


def save_tiny_vision_model(architecture: str, folder: Path, **changes: object) -> None:
    """Save a random bfloat16 model that sees with its processor; `changes` go to its text part."""
    import torch
    import transformers

    config_class, kind, rest = TINY[architecture]
    rope = {"rope_parameters": MROPE} if kind.startswith("qwen2_") else {}
    text = {**SHARED, "model_type": kind, "vocab_size": 272, **rope, **changes}
    own = {"image_token_index": 258} | rest if "image_token_id" not in rest else rest
    tied = bool(text["tie_word_embeddings"])
    config = getattr(transformers, config_class)(text_config=text, tie_word_embeddings=tied, **own)
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    save_processor(architecture, folder)


def save_processor(architecture: str, folder: Path) -> None:
    """Save tokenizer, settings of the pictures, and chat template, as repos have them."""
    tokenizer = vision_tokenizer()
    image_processor, token, settings = PROCESSORS[architecture]
    tokenizer.chat_template = TEMPLATE % token
    tokenizer.save_pretrained(folder)
    _write(folder / "preprocessor_config.json", image_processor)
    if settings:
        _write(folder / "processor_config.json", settings)


def vision_tokenizer() -> "PreTrainedTokenizerFast":
    """Return the tokenizer of all bytes, and of the tokens that stand for pictures."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(TOKENS)})
    return tokenizer


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
