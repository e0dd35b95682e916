"""A python whose vLLM is a stand-in: the calls of the real one that hubq uses, and counting tokens.

It writes one more than the last token again and again, a step in an eighth of a second of a clock
of its own. Options that the real one doesn't know are
refused, as its dataclasses refuse them.
"""

import sys
from pathlib import Path

PACKAGE = """
import os
import time
from dataclasses import dataclass, field

__version__ = "0.33.0"
SECONDS = 0.125  # a step takes, on a clock that nothing else moves
clock = [0.0]
time.perf_counter = lambda: clock[0]


@dataclass
class SamplingParams:
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False


@dataclass
class CompletionOutput:
    token_ids: tuple[int, ...]


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int = 0,
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enable_prefix_caching: bool | None = None,
    ) -> None:
        print("loading", model, "with what libraries print")
        assert "PYTHONPATH" not in os.environ or "hubq" not in os.environ["PYTHONPATH"]
        assert "HF_TOKEN" not in os.environ
        if not os.path.isfile(os.path.join(model, "config.json")):
            raise ValueError(f"{model} is no model that vLLM knows")

    def generate(self, prompts, sampling_params, use_tqdm=True):
        assert use_tqdm is False
        found = []
        clock[0] += SECONDS * sampling_params.max_tokens
        for prompt in prompts:
            last = prompt["prompt_token_ids"][-1]
            tokens = tuple(last + 1 + each for each in range(sampling_params.max_tokens))
            found.append(RequestOutput([CompletionOutput(tokens)]))
        return found
"""


def pretend_vllm(folder: Path) -> Path:
    """Write such an environment; return its python."""
    package = folder / "libraries" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python
