"""SGLang's answers, on a GPU."""

from typing import Any

import sglang
from answering import serve


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Load a folder, score its prompts and write after them, greedily."""
    model = sglang.Engine(
        model_path=asked["model"],
        dtype=asked["dtype"],
        context_length=asked["length"],
        mem_fraction_static=0.5,
        disable_cuda_graph=True,
        disable_radix_cache=True,
        random_seed=0,
    )
    wanted = {"temperature": 0.0, "max_new_tokens": asked["new"], "ignore_eos": True}
    found = model.generate(
        input_ids=asked["prompts"],
        sampling_params=wanted,
        return_logprob=True,
        logprob_start_len=0,
    )
    model.shutdown()
    return {
        "written": [each["output_ids"] for each in found],
        "scored": [
            [scored for scored, *_ in each["meta_info"]["input_token_logprobs"][1:]]
            for each in found
        ],
    }


if __name__ == "__main__":
    serve(answer, sglang.__version__)
