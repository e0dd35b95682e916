"""Download a release, load it as its card's quick start does, and compare it with the local folder.

A program of its own, in an empty cache: it runs by its path, and imports what loads while files
are on their way up. For each line of JSON on standard input it writes one to standard output:
which repos to bring, which hubq's own download checks byte by byte; then what to load. Where
nothing but transformers is needed hubq can't be imported any more when that begins, nor the Hub be
asked, so that what was downloaded is all there is.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,  # noqa: F401 - seconds, in which files are on their way
    PreTrainedTokenizerFast,  # noqa: F401 - likewise
)

MISSING = ("missing_keys", "unexpected_keys", "mismatched_keys")
PROBE = "What is photosynthesis? Llamas: läma, 羊驼.\n"


class Absent:
    """Hides hubq from the import system."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Let nothing of hubq be found."""
        if name.partition(".")[0] == "hubq":
            raise ModuleNotFoundError(f"No module named {name!r}")


def by_transformers(place: dict[str, Any], way: dict[str, Any]) -> Any:  # noqa: ANN401
    """Load with the quick start's own call; `place` names a repo and its commit, or a folder."""
    options: dict[str, Any] = {"dtype": "auto"}
    if way["trust"]:
        options["trust_remote_code"] = True
    if way["packed"]:
        options["config"] = AutoConfig.from_pretrained(**place)
        options["config"].quantization_config["packed"] = True
    auto: Any = AutoModelForCausalLM
    model, info = auto.from_pretrained(**place, **options, output_loading_info=True)
    for what in MISSING:
        if names := sorted(map(str, info.get(what) or ())):
            raise ValueError(f"{what.replace('_', ' ')}: {', '.join(names[:3])}")
    return model


def by_hubq(folder: str, way: dict[str, Any], device: str) -> Any:  # noqa: ANN401
    """Load with hubq, where the format's own library is not installed, or to add an adapter."""
    # Likewise: only where transformers alone does not do.
    from hubq.stages.evaluate.inference.loading import load

    return load(Path(folder), device=device, dtype=way["dtype"]).model


def loaded(side: dict[str, Any], way: dict[str, Any], job: dict[str, Any]) -> Any:  # noqa: ANN401
    """Load one side's model in one way."""
    if way["reader"] == "hubq":
        return by_hubq(side["folder"], way, job["device"])
    return by_transformers(side["place"], way).to(job["device"])


def logits_of(model: Any, windows: list[list[int]]) -> torch.Tensor:  # noqa: ANN401
    """Return the logits of all windows in float32, (windows, length, vocabulary)."""
    with torch.inference_mode():
        read = torch.tensor(windows, device=model.device)
        return torch.cat([model(input_ids=each[None]).logits.float().cpu() for each in read])


def losses_of(logits: torch.Tensor, windows: list[list[int]]) -> list[float]:
    """Return each window's mean negative log-likelihood, in nats."""
    targets = torch.tensor(windows)[:, 1:]
    found = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), targets, reduction="none"
    )
    return [float(each) for each in found.double().mean(dim=1)]


def compare(way: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Load both sides in one way; say how far apart they are.

    Their files are the same byte for byte, so the beginning of a window shows all that could
    differ: how they were loaded.
    """
    model = loaded(job["there"], way, job)
    there = logits_of(model, job["windows"])
    beginning = [job["windows"][0][: job["compared"]]]
    found = logits_of(model, beginning)
    dtype = str(model.dtype).removeprefix("torch.")
    del model
    here = logits_of(loaded(job["here"], way, job), beginning)
    return {
        "dtype": dtype,
        "finite": bool(there.isfinite().all()),
        "largest": float((found - here).abs().max()),
        "losses": losses_of(there, job["windows"]),
    }


def same_tokens(job: dict[str, Any]) -> bool:
    """Tell whether both sides' tokenizers give the same tokens."""
    there, here = (
        AutoTokenizer.from_pretrained(**job[side]["place"])(PROBE)["input_ids"]
        for side in ("there", "here")
    )
    return bool(there == here)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Do what was asked; what a library refuses is an answer."""
    try:
        tokens = same_tokens(job) if job["tokenizes"] else True
        return {"ways": [compare(way, job) for way in job["ways"]], "same_tokens": tokens}
    except (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def bring(names: list[str], token: str | None) -> dict[str, Any]:
    """Bring repos into the empty cache; return their folders, or why one can't be had."""
    # Whoever only loads has no hubq.
    from hubq.client.client import Client
    from hubq.client.pull import pull
    from hubq.errors import UserError

    try:
        return {"folders": [str(pull(name, None, Client(token=token))) for name in names]}
    except UserError as error:
        return {"lost": str(error)}


def forget_hubq() -> None:
    """Let hubq be neither imported nor found among what was."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "hubq"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Absent())


def obey(wanted: dict[str, Any]) -> dict[str, Any]:
    """Do what a line asks for."""
    if "bring" in wanted:
        return bring(wanted["bring"], wanted["token"])
    constants.HF_HUB_OFFLINE = True
    if all(each["reader"] != "hubq" for each in wanted["ways"]):
        forget_hubq()
    return answer(wanted)


if __name__ == "__main__":
    result, sys.stdout = sys.stdout, sys.stderr  # whatever libraries print is no answer
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), file=result, flush=True)
