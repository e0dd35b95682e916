"""What answering lm-eval's tasks costs, beside lm-eval's own `hf` model: python bench/evaluate.py

SmolLM2-135M-Instruct answers hubq_piqa, hubq_openbookqa and hubq_boolq (or the named tasks) in the
dtype that this CPU is fast in, without examples and with five (--shots; `5=` for the same to all
questions), for the first items of each (--limit). `hf` is measured at several batch sizes
(--batches; its own search for one would need 50 GB here), with its softmax in float32 as ours has
it, and at the best of these as it comes, in the model's dtype. Each run has a process of its own
with one thread. Where a task is measured more than once (--times), the ways take turns, and the
least CPU time counts. Memory is the peak after loading, above the loaded model, and in all.

What the dtype does to the answers is shown against `hf` in float32: how many items have another
likeliest answer, and by how much log-likelihoods differ, typically and at most.

The floor is what cannot be saved: the matrix products of the blocks, for each distinct token, and
of the head, for each token that predicts something, at the rate they have alone on 2,048 tokens.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from subject import RTN, alone, heading, recipe

from hubq.client.client import Client
from hubq.machine.device import compute_dtype, keep_freed_memory
from hubq.machine.progress import SILENT
from hubq.sources.find import fetch, find
from hubq.sources.task_names import FOLDER
from hubq.stages.evaluate.inference.prefixes import common

TASKS = ("hubq_piqa", "hubq_openbookqa", "hubq_boolq")
TOKENS = 2048  # of the matrix products that the floor is made of
COLUMNS = ("tokens", "blocks s", "head s", "rest s", "CPU s", "of it", "wall s", "MB above", "MB",
           "scores", "flips", "rms Δ", "most Δ")  # fmt: skip


class Way(NamedTuple):
    """A model class, and of `hf` how it is set."""

    name: str
    batch_size: int = 0
    softmax: str | None = None
    dtype: str | None = None  # what this CPU is fast in


OURS = Way("ours")


def main() -> None:
    torch.set_num_threads(1)  # of each run, and of what the heading says
    asked = arguments()
    if asked.one:
        task, shots, *way = json.loads(asked.one)
        print(json.dumps(one(task, shots, asked.limit, Way(*way))))
        return
    for task in asked.tasks or TASKS:
        for shots in asked.shots:
            Console(width=150).print(compared(task, shots, asked))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*")
    parser.add_argument("--shots", nargs="+", default=["0", "5"])
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def compared(task: str, shots: str, asked: argparse.Namespace) -> Table:
    """Measure a task in all ways and lay the results side by side."""

    def measured(way: Way) -> dict[str, Any]:
        order = json.dumps([task, shots, *way])
        row: dict[str, Any] = alone(__file__, "--limit", str(asked.limit), "--one", order)
        return row

    tried = [Way(f"hf, {size} at a time", size, "float32") for size in asked.batches]
    exact = Way("hf, in float32", max(asked.batches), "float32", "float32")
    rows = {way: measured(way) for way in (OURS, *tried)}
    best = min(tried, key=lambda way: rows[way]["CPU s"])
    plain = best._replace(name=f"{best.name}, as it comes", softmax=None)
    rows |= {way: measured(way) for way in (plain, exact)}
    for way in (OURS, best, plain) * (asked.times - 1):
        rows[way] = min(rows[way], measured(way), key=lambda row: row["CPU s"])
    return table(f"{task}, {shots} examples, {asked.limit} items", rows)


def table(title: str, rows: dict[Way, dict[str, Any]]) -> Table:
    """Show costs and answers, the floor at the end."""
    ours, exact = rows[OURS], rows[list(rows)[-1]]["answers"]
    found = Table("", *COLUMNS, title=heading(title))
    for way, row in rows.items():
        flips, typical, largest = differences(row["answers"], exact)
        found.add_row(
            way.name,
            f"{row['tokens']:,}",
            *(f"{row[part]:.1f}" for part in ("blocks s", "head s", "rest s", "CPU s")),
            f"{ours['CPU s'] / row['CPU s']:.2f}",
            f"{row['wall s']:.1f}",
            *(f"{row[which] / 1e6:,.0f}" for which in ("MB above", "MB")),
            row["scores"],
            *(str(flips), f"{typical:.3f}", f"{largest:.2f}"),
        )
    tokens, blocks, head = ours["floor"]
    times = f"{ours['CPU s'] / (blocks + head):.2f}"
    found.add_row("floor", f"{tokens:,}", f"{blocks:.1f}", f"{head:.1f}", "",
                  f"{blocks + head:.1f}", times)  # fmt: skip
    return found


def differences(given: list[list[float]], exact: list[list[float]]) -> tuple[int, float, float]:
    """Count the items with another likeliest answer; return typical and largest differences."""
    items = list(zip(given, exact, strict=True))
    flips = sum(own.index(max(own)) != its.index(max(its)) for own, its in items)
    apart = [abs(a - b) for own, its in items for a, b in zip(own, its, strict=True)]
    return flips, math.sqrt(math.fsum(each**2 for each in apart) / len(apart)), max(apart)


def one(task: str, shots: str, limit: int, way: Way) -> dict[str, Any]:
    """Answer a task once; return the costs, the scores and the answers' log-likelihoods."""
    from lm_eval.evaluator import evaluate

    client = Client()
    model = subject(fetch(find(recipe(RTN, 16).model, client), client), way)
    loaded = defined(task, shots)
    model.model(torch.tensor([[0, 1]]))  # weights are read from the disk when they are first used
    blocks, head = Watch(model.model.get_decoder()), Watch(model.model.get_output_embeddings())
    Path("/proc/self/clear_refs").write_text("5")  # the peak of loading doesn't count
    before = memory("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    found = evaluate(model, loaded, limit=limit, bootstrap_iters=0)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert found is not None
    peak = memory("VmHWM")
    items = sorted(found["samples"][task], key=lambda item: int(item["doc_id"]))
    return {
        "tokens": blocks.tokens,
        "blocks s": blocks.seconds,
        "head s": head.seconds,
        "rest s": cpu - blocks.seconds - head.seconds,
        "CPU s": cpu,
        "wall s": wall,
        "MB": peak,
        "MB above": peak - before,
        "scores": ", ".join(accuracies(found["results"][task])),
        "answers": [[float(value) for value, _ in item["filtered_resps"]] for item in items],
        "floor": floor(model, items, head.tokens) if way == OURS else None,
    }


def subject(folder: Path, way: Way) -> Any:  # noqa: ANN401 - an LM, which carries no types
    """Load the model as a user of lm-eval would, or as hubq's worker does."""
    dtype = way.dtype or compute_dtype("cpu")
    if way != OURS:
        from lm_eval.models.huggingface import HFLM

        settings = {"batch_size": way.batch_size, "softmax_dtype": way.softmax}
        return HFLM(str(folder), device="cpu", dtype=dtype, **settings)
    from hubq.stages.evaluate.inference.loading import load
    from hubq.stages.evaluate.lm_eval_model import language_model

    keep_freed_memory()
    model = load(folder, device="cpu", dtype=dtype).model
    return language_model(model, folder, SILENT, "bench")


def defined(task: str, shots: str) -> Any:  # noqa: ANN401 - lm-eval carries no types
    """Return the task with so many examples, drawn for each question or the same for all."""
    from lm_eval.api.samplers import get_sampler
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_path=FOLDER, include_defaults=False).load([task])
    for each in loaded["tasks"].values():
        each.set_config(key="num_fewshot", value=int(shots.rstrip("=")))
        if shots.endswith("="):
            each.sampler = get_sampler("first_n")(list(each.fewshot_docs()), rnd=None)
        each.set_fewshot_seed(seed=0)
    return loaded


def accuracies(row: dict[str, Any]) -> Iterator[str]:
    """Yield the accuracies of lm-eval's table."""
    for key, value in row.items():
        metric = key.partition(",")[0]
        if metric in ("acc", "acc_norm"):
            yield f"{metric} {value:.3f}"


def memory(what: str) -> int:
    """Return the bytes that the kernel counts for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what + ":"))


class Watch:
    """Counts the tokens that go through a module, and the seconds that this takes."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.tokens = 0
        self.seconds = 0.0
        module.register_forward_pre_hook(self.begin, with_kwargs=True)
        module.register_forward_hook(self.end)

    def begin(self, module: object, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Count what goes in."""
        given = args[0][..., 0] if args else options["input_ids"]
        self.tokens += given.numel()
        self.seconds -= time.process_time()

    def end(self, *ignored: object) -> None:
        """Stop the clock."""
        self.seconds += time.process_time()


def floor(model: Any, items: list[Any], predicting: int) -> tuple[int, float, float]:  # noqa: ANN401
    """Return the distinct tokens, and the least seconds of their products in blocks and head."""
    asked = [model._encoded(*pair) for item in items for pair in item["arguments"]]
    inputs = sorted((context + continuation)[:-1] for _, context, continuation in asked)
    distinct = sum(map(len, inputs)) - sum(common(*pair) for pair in pairwise(inputs))
    block = model.model.get_decoder().layers[0]
    linears = [each for each in block.modules() if isinstance(each, torch.nn.Linear)]
    blocks = sum(map(seconds_a_token, linears)) * model.model.config.num_hidden_layers
    head = seconds_a_token(model.model.get_output_embeddings())
    return distinct, distinct * blocks, predicting * head


@torch.inference_mode()
def seconds_a_token(linear: torch.nn.Linear) -> float:
    """Return the least seconds that a product took for a token."""
    inputs = torch.randn(TOKENS, linear.in_features, dtype=linear.weight.dtype)
    found = []
    for _ in range(5):
        began = time.process_time()
        linear.forward(inputs)
        found.append(time.process_time() - began)
    return min(found) / TOKENS


if __name__ == "__main__":
    main()
