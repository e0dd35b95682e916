"""llama.cpp's answers, by llama-cpp-python, of a GGUF file."""

import os
from typing import Any

import llama_cpp
import numpy
from answering import serve


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Load a file, score its prompts and write after them, greedily."""
    model = llama_cpp.Llama(
        model_path=asked["model"],
        n_ctx=asked["length"],
        n_batch=asked["length"],
        n_threads=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        n_gpu_layers=-1,
        logits_all=True,
        seed=0,
    )
    found = [_one(model, prompt, asked["new"]) for prompt in asked["prompts"]]
    return {
        "written": [written for written, _ in found],
        "scored": [scored for _, scored in found],
    }


def _one(model: llama_cpp.Llama, prompt: list[int], new: int) -> tuple[list[int], list[float]]:
    model.reset()
    model.eval(prompt)
    logits = numpy.array(model.scores[: len(prompt)], dtype=numpy.float64)
    scored = [
        float(row[token] - numpy.logaddexp.reduce(row))
        for row, token in zip(logits[:-1], prompt[1:], strict=True)
    ]
    written = [int(logits[-1].argmax())]
    while len(written) < new:
        model.eval(written[-1:])
        written.append(int(model.scores[model.n_tokens - 1].argmax()))
    return written, scored


if __name__ == "__main__":
    serve(answer, llama_cpp.__version__)
