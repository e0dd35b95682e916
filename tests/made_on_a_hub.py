"""Tiny releases on a hub, made by the stages that users call, of a base and data that lie there."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd
from made_adaptation import adapted_report
from made_run import made_report
from tiny_models import save_tiny_model
from unloaded import publish, publish_adapted

from hubq.client.client import Client
from hubq.records.plan import Plan
from hubq.records.report import Report
from hubq.records.run_folder import ADAPTED, REPORT
from hubq.stages.adapt.adapt import adapt
from hubq.stages.plan.plan import plan
from hubq.stages.publish.publish import Publication
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

BASE, TEXTS, PAIRS = "acme/Tiny", "acme/texts", "acme/pairs"
RTN: dict[str, Any] = {"name": "rtn", "bits": 4, "group_size": 32}
GPTQ: dict[str, Any] = {**RTN, "name": "gptq"}
CALIBRATION: dict[str, Any] = {"dataset": {"hub": TEXTS}, "samples": 4, "length": 64}


def leaves(sentences: int, factor: int = 7) -> str:
    """Write a text of so many sentences."""
    numbers = range(sentences)
    return "".join(f"The {each}th llama ate {each * factor} leaves.\n" for each in numbers)


@dataclass
class Maker:
    """Whoever publishes, with a folder of their own."""

    folder: Path
    client: Client
    runs: dict[str, Path] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def put(self, repo: str, files: dict[str, bytes], kind: str = "model") -> str:
        """Commit files to a repo, made if missing; return the commit."""
        api = self.client.api()
        api.create_repo(repo, repo_type=kind, exist_ok=True)
        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(repo, added, commit_message="Put", repo_type=kind).oid

    def tamper(self, repo: str, path: str, edit: Callable[[str], str]) -> str:
        """Edit a text on a branch of its own; return the repo at that commit."""
        api = self.client.api()
        before = Path(api.hf_hub_download(repo, path)).read_text()
        after = edit(before)
        assert after != before
        branch = f"tampered-{next(self.numbers)}"
        api.create_branch(repo, branch=branch)
        changed = CommitOperationAdd(path, after.encode())
        made = api.create_commit(repo, [changed], commit_message="Tamper", revision=branch)
        return f"{repo}@{made.oid}"

    def prepare(self) -> None:
        """Put a base, a text and instruction pairs on the hub."""
        base = self.folder / "base"
        save_tiny_model("llama", base)
        (base / "LICENSE").write_text("MIT License. Copyright (c) Acme\n")
        (base / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
        self.put(BASE, {path.name: path.read_bytes() for path in base.iterdir()})
        self.put(
            TEXTS, {"train.txt": leaves(60).encode(), "test.txt": leaves(9).encode()}, "dataset"
        )
        self.put(PAIRS, {"train.jsonl": pairs(2)}, "dataset")

    def recipe(self, method: dict[str, Any], **changes: Any) -> Recipe:
        """Return a recipe of the base, which is not measured."""
        values: dict[str, Any] = {
            "name": "tiny",
            "model": {"hub": BASE},
            "method": method,
            "calibration": CALIBRATION if method["name"] == "gptq" else None,
            "evaluate": {"fidelity": None, "efficiency": None},
            "publish": {"org": "acme"},
        }
        return Recipe.model_validate(values | changes)

    def quantized(self, recipe: Recipe, name: str) -> tuple[Plan, Report]:
        """Quantize by a recipe in a run folder; return its plan and a report without numbers."""
        self.runs[name] = run = self.folder / name
        planned = plan(recipe, run, self.client)
        checkpoint = quantize(planned, run, self.client)
        return planned, made_report(plan=planned, checkpoint=checkpoint, measurements=())

    def published(self, recipe: Recipe, name: str) -> Publication:
        """Quantize and publish by a recipe."""
        _, report = self.quantized(recipe, name)
        return self.published_report(report, name)

    def published_report(self, report: Report, name: str) -> Publication:
        """Publish what a report is of."""
        report.save(self.runs[name] / REPORT)
        return publish(report, self.runs[name], self.client)

    def published_adapted(self, planned: Plan, report: Report, name: str) -> list[Publication]:
        """Adapt and publish what was quantized."""
        run = self.runs[name]
        adaptation = adapt(planned, report.checkpoint, run, self.client)
        adapted = adapted_report(report, adaptation)
        report.save(run / REPORT)
        adapted.save(run / ADAPTED / REPORT)
        return list(publish_adapted(adapted, run, self.client))


def pairs(factor: int) -> bytes:
    """Write instruction pairs as lines of JSON."""
    rows = [{"prompt": f"{n} times {factor}?", "completion": f"{factor * n}."} for n in range(20)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
