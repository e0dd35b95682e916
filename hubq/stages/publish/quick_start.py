"""Download a release, load it as its card's quick start does, and compare it with the local folder.

A program of its own, which runs by its path in a process that has not imported hubq, with an empty
cache. Its first job is to bring the files, which hubq's own download checks byte by byte. The
second, in another process, loads them; where transformers alone is needed hubq can't be imported
there, nor the Hub be asked, so that what was downloaded is all there is.

`python -P quick_start.py JOB.json` writes one line of JSON to standard output: the answer.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

MISSING = ("missing_keys", "unexpected_keys", "mismatched_keys")
PROBE = "What is photosynthesis? Llamas: läma, 羊驼.\n"


class Absent:
    """Hides hubq from the import system."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Let nothing of hubq be found."""
        if name.partition(".")[0] == "hubq":
            raise ModuleNotFoundError(f"No module named {name!r}")


def settle() -> None:
    """Let libraries that were imported elsewhere look for caches, tokens and the Hub anew.

    They read the environment when they are imported, and that was another one.
    """
    from huggingface_hub import constants

    importlib.reload(constants)
    if "transformers" in sys.modules:
        from transformers import dynamic_module_utils, utils
        from transformers.utils import hub

        folder = os.environ.get("HF_MODULES_CACHE", os.path.join(constants.HF_HOME, "modules"))
        for module in (hub, utils, dynamic_module_utils):
            vars(module)["HF_MODULES_CACHE"] = folder


def by_transformers(place: dict[str, Any], way: dict[str, Any]) -> Any:  # noqa: ANN401
    """Load with the quick start's own call; `place` names a repo and its commit, or a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

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
    # Only where transformers alone does not do.
    from hubq.stages.evaluate.inference.loading import load

    return load(Path(folder), device=device, dtype=way["dtype"]).model


def loaded(side: dict[str, Any], way: dict[str, Any], job: dict[str, Any]) -> Any:  # noqa: ANN401
    """Load one side's model in one way."""
    if way["reader"] == "hubq":
        return by_hubq(side["folder"], way, job["device"])
    return by_transformers(side["place"], way).to(job["device"])


def logits_of(model: Any, windows: list[list[int]]) -> Any:  # noqa: ANN401 - a torch.Tensor
    """Return the logits of all windows in float32, (windows, length, vocabulary)."""
    import torch

    with torch.inference_mode():
        read = torch.tensor(windows, device=model.device)
        return torch.cat([model(input_ids=each[None]).logits.float().cpu() for each in read])


def losses_of(logits: Any, windows: list[list[int]]) -> list[float]:  # noqa: ANN401 - a tensor
    """Return each window's mean negative log-likelihood, in nats."""
    import torch

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
    from transformers import AutoTokenizer

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


def obey(wanted: dict[str, Any]) -> dict[str, Any]:
    """Do what a job asks for."""
    if "bring" in wanted:
        return bring(wanted["bring"], wanted["token"])
    if all(each["reader"] != "hubq" for each in wanted["ways"]):
        sys.meta_path.insert(0, Absent())
    return answer(wanted)


def run(file: Path, out: TextIO) -> int:
    """Do the job of a file, and write the answer; whatever libraries print goes elsewhere."""
    wanted = json.loads(file.read_bytes())
    settle()
    print(json.dumps(obey(wanted)), file=out, flush=True)
    return 0


if __name__ == "__main__":
    result, sys.stdout = sys.stdout, sys.stderr
    sys.exit(run(Path(sys.argv[1]), result))
