"""A repo is read where hubq is not installed, by the one file that it carries."""

import ast
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from asked_without_hubq import ask
from damaged_folder import DAMAGES
from faulty_hub import FaultyHub, faulty_hub
from hubq_folder import round_all, write
from transformers import AutoModelForCausalLM

from hubq.client.client import Client
from hubq.formats.layouts.carried_loader import loader_source
from hubq.machine.engines import LOADER
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

FAMILIES = ("llama", "qwen2")
SEES = "LlavaNextForConditionalGeneration"
REPO = "acme/tiny-hubq"
NOWHERE = Client(endpoint="http://127.0.0.1:9")
IDS = torch.arange(40).view(2, 20)

Answers = dict[tuple[str, bool], Any]  # by what was loaded, and whether it stayed packed


def write_seeing(base: Path, run: Path) -> Path:
    """Quantize a model that sees as the stages do."""
    run.mkdir()
    values = {
        "name": "tiny",
        "model": {"folder": base},
        "method": {"name": "rtn", "bits": 3, "group_size": 32},
        "format": "hubq",
        "publish": {"org": "me"},
    }
    quantize(plan(Recipe.model_validate(values), run, NOWHERE), run, NOWHERE)
    return run / "model"


@pytest.fixture(scope="module")
def folders(
    tiny_model: Callable[[str], Path],
    tiny_vision_model: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Write whole folders of two families and one that sees, and every damaged one."""
    root = tmp_path_factory.mktemp("carried")
    found = {}
    for family in FAMILIES:
        write(tiny_model(family), root / family, round_all)
        found[family] = root / family
    found[SEES] = write_seeing(tiny_vision_model(SEES), root / SEES)
    write(tiny_model("llama"), root / "whole")
    for number, (name, damage) in enumerate(DAMAGES.items()):
        found[name] = shutil.copytree(root / "whole", root / str(number))
        damage.inflict(found[name])
    return found


@pytest.fixture(scope="module")
def hub(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    with faulty_hub(tmp_path_factory.mktemp("hub"), user="ann", org="acme") as running:
        api = Client(running.endpoint, running.token).api()
        api.create_repo(REPO)
        api.upload_folder(repo_id=REPO, folder_path=folders["qwen2"])
        yield running


# Takes some seconds: a new process imports transformers.
@pytest.fixture(scope="module")
def answers(
    folders: dict[str, Path], hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """Ask one process for all."""
    scratch = tmp_path_factory.mktemp("answers")
    names = {name: str(path) for name, path in folders.items()} | {REPO: REPO}
    requests = [(name, packed) for packed in (False, True) for name in names]
    found = ask(
        [(names[name], packed) for name, packed in requests],
        scratch,
        HF_ENDPOINT=hub.endpoint,
        HF_TOKEN=hub.token,
        HF_HOME=str(scratch / "home"),
    )
    return dict(zip(requests, found, strict=True))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", [*FAMILIES, SEES])
def test_a_folder_reads_as_with_hubq(
    family: str, packed: bool, answers: Answers, folders: dict[str, Path]
) -> None:
    with torch.inference_mode():
        model = load(folders[family], device="cpu", dtype="bfloat16").model
        expected = model(input_ids=IDS).logits

    found = answers[family, packed]

    assert torch.equal(found["logits"], expected)
    assert found["layer"] == ("PackedLinear" if packed else "Linear")


@pytest.mark.parametrize("packed", [False, True])
def test_a_repo_on_the_hub_reads_as_its_folder(packed: bool, answers: Answers) -> None:
    assert torch.equal(answers[REPO, packed]["logits"], answers["qwen2", packed]["logits"])


def test_hubq_reads_a_repo_on_the_hub_without_running_its_file(
    hub: FaultyHub, answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + resolve
    )
    modules = set(sys.modules)

    model = AutoModelForCausalLM.from_pretrained(
        REPO, dtype="auto", trust_remote_code=False, token=hub.token, cache_dir=tmp_path
    )

    with torch.inference_mode():
        assert torch.equal(model(input_ids=IDS).logits, answers[REPO, False]["logits"])
    assert not [name for name in set(sys.modules) - modules if name.endswith("hubq_loader")]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(damage: str, packed: bool, answers: Answers) -> None:
    assert re.search(DAMAGES[damage].message, answers[damage, packed]["error"], re.DOTALL)


def test_the_file_imports_what_every_reader_has() -> None:
    tree = ast.parse(loader_source())

    modules = {
        each.partition(".")[0]
        for node in ast.walk(tree)
        for each in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules - sys.stdlib_module_names == {"torch", "transformers", "safetensors"}


def test_no_name_in_the_file_stands_for_two_things() -> None:
    names: list[str] = []
    for node in ast.parse(loader_source()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [each.id for each in targets if isinstance(each, ast.Name)]

    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_the_same_sources_give_the_same_file(folders: dict[str, Path]) -> None:
    assert (folders["llama"] / LOADER).read_bytes() == loader_source()
