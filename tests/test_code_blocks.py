"""Every block of code on a card works: Python runs, commands parse, and no kind goes unchecked."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml
from made_run import full_report, made_report
from packaging.requirements import Requirement
from PIL import Image
from tiny_vision import save_tiny_vision_model

from hubq.cli import cli
from hubq.client.client import Client
from hubq.machine.engines import READERS, installed_version
from hubq.records.report import Report
from hubq.stages.card.card import NO_SIBLINGS, render
from hubq.stages.plan.plan import plan
from hubq.stages.publish.release import papers
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe, read

NOWHERE = Client(endpoint="http://127.0.0.1:9")
FENCED = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
LANGUAGES = {"bash", "python", "yaml", "text", "bibtex"}
# Packages that are never installed here: those with environments of their own, and one that only
# some models that see need.
ELSEWHERE = {"vllm", "sglang", "torchvision"}
# Flags that a card may use, from the servers' documentation, with the type of their value.
FLAGS: Mapping[str, Mapping[str, Callable[[str], object]]] = {
    # docs.vllm.ai: vllm serve [model_tag] [options]
    "vllm serve": {"--port": int, "--max-model-len": int, "--dtype": str},
    # docs.sglang.io: server arguments
    "python -m sglang.launch_server": {"--model-path": str, "--port": int, "--dtype": str},
}
GRID = {"bits": 4, "group_size": 32}
# What is written in each format, small.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "compressed-tensors, asymmetric": ("compressed-tensors", {"name": "rtn", **GRID}),
    "compressed-tensors, symmetric": (
        "compressed-tensors",
        {"name": "rtn", "symmetric": True, **GRID},
    ),
    "gptq": ("gptq", {"name": "rtn", "symmetric": True, **GRID}),
    "awq": ("awq", {"name": "rtn", **GRID}),
    "bitsandbytes": ("bitsandbytes", {"name": "bitsandbytes"}),
    "hubq": ("hubq", {"name": "rtn", "bits": 3, "group_size": 32}),
    "dense": ("dense", {"name": "rtn", **GRID}),
}
RUNNABLE = [name for name, (form, _) in FORMATS.items() if form not in ("gptq", "awq")]
each_format = pytest.mark.parametrize("name", FORMATS)


class Block(NamedTuple):
    """One fenced block of a card."""

    language: str
    code: str


class Released(NamedTuple):
    """A model in some format, and the report that its card is made of."""

    folder: Path
    report: Report


def blocks(report: Report) -> list[Block]:
    return blocks_in(render(report))


def blocks_in(text: str) -> list[Block]:
    body = text.split("---\n", 2)[2] if text.startswith("---\n") else text
    return [Block(language, code) for _, language, code in FENCED.findall(body)]


def python(report: Report) -> list[str]:
    return [code for language, code in blocks(report) if language == "python"]


def commands(found: list[Block]) -> list[list[str]]:
    lines = [line for block in found if block.language == "bash" for line in block.code.split("\n")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def released(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Released]:
    """Return a function that quantizes the tiny model into a format."""

    def make(name: str) -> Released:
        return quantized(tiny_model("llama"), name, tmp_path_factory.mktemp("run"))

    return make


def quantized(base: Path, name: str, run: Path) -> Released:
    """Quantize a folder's model into one of FORMATS."""
    form, method = FORMATS[name]
    recipe = Recipe.model_validate(
        {
            "name": "mine",
            "model": {"folder": str(base), "base_model": "acme/tiny"},
            "method": method,
            "format": form,
            "publish": {"org": "acme"},
        }
    )
    planned = plan(recipe, run, NOWHERE)
    checkpoint = quantize(planned, run, NOWHERE)
    return Released(run / "model", made_report(plan=planned, checkpoint=checkpoint))


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_python_on_a_card_runs(
    name: str, released: Callable[[str], Released], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = released(name)
    names: dict[str, Any] = {}

    for code in python(report):
        exec(code.replace(report.plan.repo, str(folder)), names)

    assert capsys.readouterr().out.startswith("user: What is a llama?\nassistant: ")


@pytest.fixture(scope="module", params=["compressed-tensors, asymmetric", "hubq"])
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Quantize a tiny model that sees into a format."""
    folder = tmp_path_factory.mktemp("seeing")
    save_tiny_vision_model("LlavaNextForConditionalGeneration", folder)
    return quantized(folder, request.param, tmp_path_factory.mktemp("run"))


def test_the_python_for_a_model_that_sees_runs(
    seeing: Released,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (50, 30), "red").save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)

    (code,) = python(seeing.report)
    exec(code.replace(seeing.report.plan.repo, str(seeing.folder)), {})

    assert capsys.readouterr().out.startswith("user: What does the picture show?")


def test_each_command_for_a_model_that_sees_is_one_that_is_checked(seeing: Released) -> None:
    found = commands(blocks(seeing.report))

    assert ["hubq", "chat", seeing.report.plan.repo, "--image"] in [each[:4] for each in found]
    for words in found:
        assert is_checked(words), words


def test_the_python_for_a_model_without_a_chat_template_runs(
    released: Callable[[str], Released], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = released("dense")
    unknown = report.checkpoint.model_copy(update={"prompting": None})

    (code,) = python(report.model_copy(update={"checkpoint": unknown}))
    exec(code.replace(report.plan.repo, str(folder)), {})

    assert capsys.readouterr().out.startswith("The llama is an animal that")


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_where_another_environment_is_needed_the_python_is_that_of_the_formats_that_run(
    name: str, released: Callable[[str], Released]
) -> None:
    report, other = released(name).report, released("dense").report

    assert python(report) == python(other)


@each_format
def test_no_kind_of_block_goes_unchecked(name: str, released: Callable[[str], Released]) -> None:
    languages = {block.language for block in blocks(released(name).report)}

    assert languages <= LANGUAGES


@each_format
def test_each_command_is_one_that_is_checked(
    name: str, released: Callable[[str], Released]
) -> None:
    for words in commands(blocks(released(name).report)):
        assert is_checked(words), words


def is_checked(words: list[str]) -> bool:
    """Check a command by what it is of; false: no check knows it."""
    return any(check(words) for check in (installs, serves, requests, downloads, calls_hubq))


def installs(words: list[str]) -> bool:
    """Check requirements: they parse, are known here, and hold for the version that is tested."""
    if words[:2] != ["pip", "install"]:
        return False
    pinned = {line.partition("==")[0].lower() for line in CONSTRAINTS.read_text().splitlines()}
    readers = {need for reader in READERS.values() for need in reader.packages}
    for word in words[2:]:
        need = Requirement(word)
        assert need.name.lower() in pinned | ELSEWHERE or word in readers
        if found := installed_version(need.name):
            assert need.specifier.contains(found, prereleases=True)
    return True


def serves(words: list[str]) -> bool:
    """Check a server's flags and the types of their values."""
    start = next((each for each in FLAGS if words[: len(each.split())] == each.split()), None)
    if start is None:
        return False
    rest = words[len(start.split()) :]
    if start == "vllm serve":
        assert rest.pop(0).count("/") == 1, "the model comes first"
    assert len(rest) % 2 == 0
    for flag, value in zip(rest[::2], rest[1::2], strict=True):
        FLAGS[start][flag](value)
    return True


def requests(words: list[str]) -> bool:
    """Check a request to a server that a line before has started: its body is a chat in JSON."""
    if words[0] != "curl":
        return False
    _, address, option, body = words
    assert re.fullmatch(r"localhost:\d+/v1/chat/completions", address)
    assert option == "--json"
    assert json.loads(body).keys() == {"model", "messages"}
    return True


def downloads(words: list[str]) -> bool:
    """Check a download by the Hub's command: a repo, a file that releases have, a folder."""
    if words[:2] != ["hf", "download"]:
        return False
    repo, file, option, folder = words[2:]
    assert repo.count("/") == 1
    assert file in papers(full_report(), NO_SIBLINGS)
    assert (option, folder) == ("--local-dir", ".")
    return True


def calls_hubq(words: list[str]) -> bool:
    """Check a command of ours: its options and arguments parse."""
    if words[0] != "hubq":
        return False
    command, rest = named(words[1:])
    command.make_context(words[0], rest).close()
    return True


def named(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command of ours that words begin with, and the words after its name."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_the_recipe_on_a_card_is_one(tmp_path: Path) -> None:
    report = full_report()
    (recipe,) = [block.code for block in blocks(report) if block.language == "yaml"]
    path = tmp_path / f"{report.plan.recipe['name']}.yaml"

    path.write_text(recipe)

    assert read(path).publish.org == "acme"
    assert yaml.safe_load(recipe)["method"] == report.plan.recipe["method"]


def test_the_recipe_that_is_downloaded_makes_the_same_model(
    released: Callable[[str], Released], tmp_path: Path
) -> None:
    """As the card has it: from hubq/recipe.yaml, in a run folder of its own."""
    report = released("dense").report
    path = tmp_path / "hubq" / "recipe.yaml"
    path.parent.mkdir()
    local = {"folder": report.plan.recipe["model"]["folder"], "base_model": "acme/tiny"}
    written = yaml.safe_load(papers(report, NO_SIBLINGS)["hubq/recipe.yaml"]) | {"model": local}
    path.write_text(yaml.safe_dump(written))

    recipe = read(path)
    planned = plan(recipe, tmp_path / "runs" / recipe.name, NOWHERE)
    checkpoint = quantize(planned, tmp_path / "runs" / recipe.name, NOWHERE)

    assert (recipe.name, planned.repo) == ("recipe", report.plan.repo)
    weights = "model.safetensors"
    assert checkpoint.files[weights] == report.checkpoint.files[weights]


def test_the_example_prompt_is_the_records_own() -> None:
    report = full_report()

    (shown,) = [block.code for block in blocks(report) if block.language == "text"]

    assert report.checkpoint.prompting is not None
    assert shown.strip() == str(report.checkpoint.prompting.example).strip()


def test_an_example_prompt_that_holds_a_fence_cannot_end_its_block() -> None:
    report = full_report()
    assert report.checkpoint.prompting is not None
    prompting = report.checkpoint.prompting.model_copy(update={"example": "```\n# Ha\n```"})
    checkpoint = report.checkpoint.model_copy(update={"prompting": prompting})

    found = blocks(report.model_copy(update={"checkpoint": checkpoint}))

    assert Block("text", "```\n# Ha\n```\n") in found


def test_citations_are_entries_with_balanced_braces() -> None:
    cited = [block.code for block in blocks(full_report()) if block.language == "bibtex"]

    assert len(cited) == 3
    for entry in cited:
        assert re.match(r"@\w+\{\w+,\n", entry)
        assert entry.count("{") == entry.count("}")
