"""The pages say what is so: their code works, paths and links exist, and nothing is missing."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import reference
import yaml
from test_code_blocks import Block, blocks_in, commands, is_checked, named

import hubq.formats
import hubq.methods
import hubq.methods.adapters
from hubq.cli import cli
from hubq.client.client import Client
from hubq.formats import format_named, formats
from hubq.methods import method_class, methods
from hubq.methods.adapters import adapter_class, adapters
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.sources.shards import Weights
from hubq.stages.adapt.adapt import adapt
from hubq.stages.lint.table import RULES
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.matrix import read_matrix
from hubq.stages.recipe.recipe import Recipe
from hubq.stages.recipe.schema import schema

NOWHERE = Client(endpoint="http://127.0.0.1:9")
ROOT = Path(__file__).parents[1]
OUTSIDE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]  # their links are the repository's
PAGES = [
    *OUTSIDE,
    ROOT / "space" / "README.md",
    ROOT / "hubq" / "formats" / "hubq.md",
    *sorted(ROOT.glob("docs/*.md")),
]
LANGUAGES = {"bash", "python", "yaml", "text", "json"}
SPOKEN = re.compile(r"`([^`\n]+)`")  # code in a sentence
FOLDERS = ("hubq/", "space/", "tests/", "bench/", "docs/", "recipes/", "model_cards/")
# What a page tells the reader to write, or what lies in a release and not here.
ELSEWHERE = {
    "hubq/methods/mine.py",
    "hubq/methods/adapters/mine.py",
    "hubq/formats/one_byte.py",
    *("hubq/report.json", "hubq/recipe.yaml", "hubq/requirements.txt"),  # of a repo
    *("hubq/attestation.json", "hubq/versions.json"),
}
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
PROGRAMS = (["source", ".venv/bin/activate"], ["hf", "auth", "login"])
each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)


def blocks(page: Path) -> list[Block]:
    return blocks_in(page.read_text(encoding="utf-8"))


def spoken(page: Path) -> list[str]:
    """List the code in a page's sentences."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return SPOKEN.findall(text)


@each_page
def test_each_block_of_a_page_is_of_a_kind_that_is_checked(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


@each_page
def test_the_python_and_json_of_a_page_are_so(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.code, str(page), "exec")
        elif block.language == "json":
            json.loads(f"{{{block.code}}}")


@each_page
def test_each_command_of_a_page_parses(page: Path) -> None:
    for words in commands(blocks(page)):
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        assert is_checked(words) or is_ours(words), words


def is_ours(words: list[str]) -> bool:
    """Check what runs in a copy of the repository, and the two programs around it."""
    if words[0] == "make":
        return {*words[1:]} <= {*TARGET.findall((ROOT / "Makefile").read_text())}
    if words[0] == "python" and words[1].startswith("bench/"):
        return (ROOT / words[1]).is_file()
    return words in PROGRAMS


@each_page
def test_each_command_in_a_sentence_is_there_with_its_options(page: Path) -> None:
    for code in spoken(page):
        words = code.split()
        if words[0] == "hubq" and words[1:] and words[1] != "COMMAND":
            command, rest = named(words[1:])
            options = {name for each in command.params for name in each.opts}
            assert {word for word in rest if word.startswith("-")} <= options, code
        elif words[0] == "make":
            assert is_ours(words), code
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), code


@each_page
def test_each_recipe_of_a_page_is_one(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and "name: mine" not in block.code:
            (tmp_path / "mine.yaml").write_text(block.code)

            read_matrix(tmp_path / "mine.yaml")


@each_page
def test_each_path_that_a_page_names_is_there(page: Path) -> None:
    paths = {code for code in spoken(page) if code.startswith(FOLDERS) and " " not in code}

    assert [path for path in sorted(paths - ELSEWHERE) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda path: path.stem)
def test_each_link_that_mkdocs_does_not_check_leads_to_a_file(page: Path) -> None:
    targets = LINK.findall(page.read_text("utf-8"))

    assert [target for target in targets if not (ROOT / target).exists()] == []


def first_cells(page: str, heading: str) -> dict[str, list[str]]:
    """Return a table's rows by the name in their first cell."""
    section = (ROOT / "docs" / page).read_text("utf-8").partition(f"## {heading}\n")[2]
    lines = section.partition("\n## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    return {row[0].split("`")[1]: row for row in rows}


def test_the_table_of_methods_has_them_all_and_says_which_need_a_text() -> None:
    rows = first_cells("methods.md", "Methods")

    assert sorted(rows) == methods()
    for name, row in rows.items():
        assert row[2].startswith("text") == bool(method_class(name).needs), name


def test_the_table_of_adapters_has_them_all_and_says_what_each_makes() -> None:
    rows = first_cells("methods.md", "Adapters")

    assert sorted(rows) == adapters()
    for name, row in rows.items():
        assert ("a whole model" in row[1]) == (adapter_class(name).makes == "checkpoint"), name


def test_the_table_of_formats_has_them_all() -> None:
    assert sorted(first_cells("methods.md", "Formats")) == formats()


def test_the_page_of_commands_has_the_help_of_each() -> None:
    page = reference.commands()

    def check(command: click.Command, path: str) -> None:
        assert f"\n## {path}\n" in page
        assert " ".join((command.help or "").split("\n")[0].split()) in " ".join(page.split())
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                check(each, f"{path} {name}")

    check(cli, "hubq")


def test_the_page_of_recipes_has_each_key_of_each_section_method_and_adapter() -> None:
    sections = reference.recipes().split("\n## ")[1:]
    found = schema()

    keys = found["properties"]
    chosen = [each for key in ("method", "adapt") for each in keys[key]["oneOf"][1:]]
    mappings = [found, *found["$defs"].values(), *chosen]
    assert len(sections) == len(mappings)
    for section, mapping in zip(sections, mappings, strict=True):
        keys = mapping.get("anyOf", [mapping])[-1]["properties"]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(keys)


def test_the_page_of_lint_has_each_rule_with_its_source() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (.+) \|$", reference.rules(), re.MULTILINE)

    assert [name for name, _ in rows] == [rule.name for rule in RULES]
    assert all(source for _, source in rows)


def test_a_link_that_leads_nowhere_stops_the_build_and_no_page_asks_the_network(
    tmp_path: Path,
) -> None:
    """Builds the whole site, some seconds: in a copy with two broken links."""
    for name in ("hubq", "space", "model_cards", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "laptop.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md), [no anchor](recipes.md#nothing)\n")

    built = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mkdocs", "build"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    warnings = [line for line in built.stderr.splitlines() if line.startswith("WARNING")]
    assert built.returncode == 1
    assert len(warnings) == 2
    assert "'nowhere.md'" in built.stderr
    assert "'#nothing'" in built.stderr
    pages = list((tmp_path / "build" / "docs").glob("*.html"))
    assert {"index.html", "commands.html", "recipes.html"} <= {page.name for page in pages}
    for path in pages:
        assert re.findall(r'<(?:link|script|img|iframe)[^>]*"https?:', path.read_text()) == []


def example(page: str) -> tuple[str, dict[str, Any]]:
    """Return the file that a page shows, and the recipe beside it, if there is one."""
    found = dict(blocks(ROOT / "docs" / page))
    return found["python"], yaml.safe_load(found.get("yaml", "{}"))


def quantized(base: Path, values: Mapping[str, Any], run: Path) -> Checkpoint:
    """Let a recipe go as far as its checkpoint, on a small model."""
    model = {"folder": str(base), "base_model": "acme/tiny"}
    publish = {"org": "acme"}
    recipe = Recipe.model_validate({"name": "mine", **values, "model": model, "publish": publish})
    return quantize(plan(recipe, run, NOWHERE), run, NOWHERE)


def test_the_method_of_the_page_is_one_file_and_goes_into_a_checkpoint(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, written = example("adding-a-method.md")
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.setattr(hubq.methods, "__path__", [*hubq.methods.__path__, str(tmp_path)])
    written["method"]["group_size"] = 32

    checkpoint = quantized(tiny_model("llama"), written, tmp_path / "run")

    assert Plan.load(tmp_path / "run" / "plan.json").recipe["method"]["reach"] == 0.95
    assert all(0 < (layer.weight_error or 0) < 0.1 for layer in checkpoint.layers)


def test_the_adapter_of_the_page_is_one_file_and_learns_into_a_plain_adapter(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, written = example("adding-an-adapter.md")
    (tmp_path / "mine.py").write_text(code)
    paths = [*hubq.methods.adapters.__path__, str(tmp_path)]
    monkeypatch.setattr(hubq.methods.adapters, "__path__", paths)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "What is a llama?", "completion": "An animal."}))
    few = {"dataset": str(pairs), "rank": 2, "steps": 2, "batch_size": 1, "held_out": 0}
    written["adapt"] |= few
    run = tmp_path / "run"
    checkpoint = quantized(tiny_model("llama"), written, run)

    adapted = adapt(Plan.load(run / "plan.json"), checkpoint, run, NOWHERE)

    outputs = 2 * (64 + 32 + 32 + 64 + 128 + 128 + 64)
    inputs = 2 * (6 * 64 + 128)
    assert adapted.parameters == 2 * (outputs + inputs) + outputs
    assert sorted(adapted.files) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_format_of_the_page_is_one_file_and_gives_back_what_was_packed(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = example("adding-a-format.md")
    (tmp_path / "one_byte.py").write_text(code)
    monkeypatch.setattr(hubq.formats, "__path__", [*hubq.formats.__path__, str(tmp_path)])
    method = {"name": "rtn", "bits": 4, "group_size": 32}
    values = {"method": method, "format": "one-byte"}

    checkpoint = quantized(tiny_model("llama"), values, tmp_path / "run")

    folder = tmp_path / "run" / "model"
    weights, own = Weights(folder), Weights(tiny_model("llama"))
    config = yaml.safe_load((folder / "config.json").read_text())["quantization_config"]
    for layer in checkpoint.layers:
        parts = {f"{layer.name}.{part}" for part in ("codes", "scales", "zeros")}
        tensors = {name: weights.read(name) for name in parts}
        unpacked = format_named("one-byte").unpack(layer.name, tensors, config).dequantize()
        weight = own.read(f"{layer.name}.weight").float()
        off = (unpacked - weight).square().sum() / weight.square().sum()
        assert float(off) == pytest.approx(layer.weight_error, rel=1e-3)
