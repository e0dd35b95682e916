"""What runs in vLLM's own environment: one JSON request a line comes in, one JSON answer goes out.

It imports the standard library and vllm alone, so that nothing of hubq's need fit that environment.
Standard output carries the answers; what libraries print goes to standard error. The first request
loads a model:
    {"load": {"model": FOLDER, ...}}           -> {"version": "0.33.0", "seconds": 21.5}
the others let it write after prompts, given as token ids:
    {"write": [[1, 5, 9], ...], "sampling": {"max_tokens": 8, ...}}
                                               -> {"written": [[3, 7, ...], ...], "seconds": 0.3}
It ends when standard input is closed, or with the error that vLLM raises.
"""

import json
import os
import sys
import time
from typing import Any


def load(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Load a model with vLLM's options; return it, and what to answer."""
    import vllm

    began = time.perf_counter()
    model = vllm.LLM(**options)
    return model, {"version": vllm.__version__, "seconds": time.perf_counter() - began}


def write(model: Any, prompts: list[list[int]], sampling: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Write after prompts; return what to answer."""
    from vllm import SamplingParams

    given = [{"prompt_token_ids": prompt} for prompt in prompts]
    wanted = SamplingParams(**sampling)
    began = time.perf_counter()
    found = model.generate(given, wanted, use_tqdm=False)
    seconds = time.perf_counter() - began
    return {"written": [list(each.outputs[0].token_ids) for each in found], "seconds": seconds}


def main() -> None:
    """Answer until nobody asks any more."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    model: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "load" in asked:
            model, answer = load(asked["load"])
        else:
            answer = write(model, asked["write"], asked["sampling"])
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":  # vLLM starts processes that import this file again
    main()
