"""All rules in one table: how grave, which engines they stop, and where each is known from."""

from hubq.stages.lint import card_rules, file_rules, format_rules, settings_rules, weight_rules
from hubq.stages.lint.findings import ENGINES, LLAMA_CPP, SGLANG, TRANSFORMERS, VLLM, Rule

_CARDS = "https://huggingface.co/docs/hub/model-cards"
_ORDER = "vllm-project/vllm#48148"

RULES: tuple[Rule, ...] = (
    Rule(file_rules.unreadable_file, "error", "safetensors' and JSON's specifications", ENGINES),
    Rule(file_rules.no_model, "error", "transformers 5.23, from_pretrained", ENGINES),
    Rule(file_rules.gguf_alone, "note", "vllm-project/vllm#39612", (VLLM,)),
    Rule(file_rules.no_tokenizer, "error", "vllm-project/llm-compressor#1418", ENGINES),
    Rule(
        file_rules.no_processor, "error", "ModelCloud/GPTQModel#1291", (TRANSFORMERS, VLLM, SGLANG)
    ),
    Rule(file_rules.no_generation_config, "warning", "vllm-project/llm-compressor#1305"),
    Rule(file_rules.invalid_generation_config, "warning", "huggingface/transformers#29988"),
    Rule(file_rules.leaked_truncation, "warning", "vllm-project/llm-compressor#2153"),
    Rule(file_rules.pickles, "warning", "https://huggingface.co/docs/hub/security-pickle"),
    Rule(file_rules.remote_code, "warning", "transformers 5.23, trust_remote_code"),
    Rule(file_rules.lost_code, "error", "transformers 5.23, dynamic_module_utils", (TRANSFORMERS,)),
    Rule(format_rules.odd_settings, "error", "transformers 5.23, quantization_config.py", ENGINES),
    Rule(format_rules.unknown_quant_method, "error", "huggingface/transformers#35963", ENGINES),
    Rule(
        format_rules.method_without_reader,
        "error",
        "huggingface/transformers#45147",
        (TRANSFORMERS,),
    ),
    Rule(
        format_rules.format_not_read,
        "note",
        "vllm-project/vllm#39583; SGLang 0.5.23; llama.cpp's convert_hf_to_gguf.py",
        (VLLM, SGLANG, LLAMA_CPP),
    ),
    Rule(
        format_rules.no_kernel,
        "note",
        "vLLM 0.33, SGLang 0.5.23, compressed_tensors/schemes; engines.json",
        (VLLM, SGLANG, LLAMA_CPP),
    ),
    Rule(format_rules.several_groups, "note", "llama.cpp's convert_hf_to_gguf.py", (LLAMA_CPP,)),
    Rule(settings_rules.gptq_activation_order, "error", _ORDER, (VLLM,)),
    Rule(settings_rules.gptq_asymmetric, "error", "vLLM 0.33, TYPE_MAP of gptq", (VLLM, SGLANG)),
    Rule(settings_rules.gptq_version_2, "note", "llama.cpp's convert_hf_to_gguf.py", (LLAMA_CPP,)),
    Rule(
        settings_rules.column_order_dropped,
        "error",
        "vllm-project/compressed-tensors#840; vllm-project/llm-compressor#3038",
        (TRANSFORMERS, VLLM, SGLANG),
    ),
    Rule(
        settings_rules.asymmetric_packed,
        "error",
        "compressed-tensors 0.20, PackedQuantizationCompressor",
        (TRANSFORMERS,),
    ),
    Rule(
        settings_rules.asymmetric_schemes,
        "error",
        "transformers 5.23, quantizer_compressed_tensors.py",
        (TRANSFORMERS,),
    ),
    Rule(
        settings_rules.transforms_ignored,
        "error",
        "transformers 5.23, quantizer_compressed_tensors.py",
        (TRANSFORMERS, SGLANG),
    ),
    Rule(
        settings_rules.order_without_groups,
        "error",
        "vllm-project/llm-compressor#2805",
        (VLLM,),
    ),
    Rule(
        settings_rules.old_packing,
        "error",
        "compressed-tensors 0.18.0, pack_quantized",
        (TRANSFORMERS, VLLM),
    ),
    Rule(
        weight_rules.unequal_fused_layers,
        "error",
        "vllm-project/llm-compressor#2730; vllm-project/vllm#47473; intel/auto-round#2174",
        (VLLM, SGLANG),
    ),
    Rule(
        weight_rules.missed_by_ignore_list,
        "error",
        "NVIDIA/Model-Optimizer#1858; vllm-project/vllm#45102",
        (TRANSFORMERS, VLLM, SGLANG),
    ),
    Rule(
        weight_rules.ignored_but_quantized,
        "error",
        "vllm-project/vllm#45102",
        (TRANSFORMERS, VLLM, SGLANG),
    ),
    Rule(weight_rules.width_beside_config, "error", "ModelCloud/GPTQModel#1654", ENGINES),
    Rule(weight_rules.other_tensor_names, "error", "ModelCloud/GPTQModel#1788", ENGINES),
    Rule(weight_rules.missing_weights, "error", "ModelCloud/GPTQModel#1680", ENGINES),
    Rule(
        weight_rules.tied_head_twice,
        "warning",
        "vllm-project/llm-compressor#1969; vllm-project/llm-compressor#2835",
    ),
    Rule(
        weight_rules.packed_embeddings,
        "error",
        "sgl-project/sglang#36137; vllm-project/vllm#44340",
        (TRANSFORMERS, SGLANG),
    ),
    Rule(
        weight_rules.not_quantized,
        "error",
        "NVIDIA/Model-Optimizer#1323; vllm-project/llm-compressor#1533",
        ENGINES,
    ),
    Rule(weight_rules.name_says_quantized, "error", "vllm-project/llm-compressor#1533"),
    Rule(card_rules.refused_metadata, "error", _CARDS),
    Rule(card_rules.doubted_metadata, "warning", _CARDS),
    Rule(card_rules.no_card, "warning", _CARDS),
    Rule(card_rules.incomplete_metadata, "warning", "Blaizzy/mlx-vlm#853; arcee-ai/mergekit#41"),
    Rule(card_rules.license_duties, "warning", "the licenses' own texts"),
)
