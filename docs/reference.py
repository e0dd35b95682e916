"""The pages that mkdocs makes while it builds: what the code says of itself can't go stale."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from hubq.cli import cli
from hubq.methods import methods
from hubq.methods.adapters import adapters
from hubq.stages.lint.table import RULES
from hubq.stages.recipe.schema import schema

ROOT = Path(__file__).parents[1]
WIDTH = 90  # characters a line of a command's help
TABLE = "| key | takes | default | meaning |\n|---|---|---|---|\n"
LINT = """# Rules of lint

`hubq lint FOLDER_OR_REPO` applies these rules to anybody's release, `hubq plan` those that need no
files to what a recipe will make, and `hubq publish` all of them to what it is about to push.

An error: an engine that reads the format fails or answers garbage, or the Hub refuses the repo. A
warning: something is missing or may do harm. A note: an engine never read the format.

"""
# What a key of recipes chooses by name: the key, and which names there are.
CHOSEN = {"method": ("method", methods), "adapter": ("adapt", adapters)}
# Pages and pictures that lie elsewhere, because programs or other readers want them there.
ELSEWHERE = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "hubq-format.md": "hubq/formats/hubq.md",
    "the-space.md": "space/README.md",
    "images/errors.png": "model_cards/SmolLM2-135M-Instruct-GPTQ-4bit/images/errors.png",
    "images/bits.png": "model_cards/SmolLM2-135M-Instruct-GPTQ-4bit/images/bits.png",
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages to those in docs/; mkdocs calls this."""
    made = {"commands.md": commands(), "recipes.md": recipes(), "lint.md": rules()}
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    for path, source in ELSEWHERE.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / source)))
    return files


def commands() -> str:
    """Return the page of all commands, each with its help as the terminal shows it."""
    sections = (
        f"## {each.command_path}\n\n```text\n{each.get_help()}\n```\n" for each in _contexts(cli)
    )
    return "\n".join(["# Commands\n", *sections])


def _contexts(
    command: click.Command, name: str = "hubq", parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Yield what each command's help is printed in, groups before what they hold."""
    settings = {"terminal_width": WIDTH, **command.context_settings}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from _contexts(found, inner, context)


def recipes() -> str:
    """Return the page of all keys of recipes: the top's, sections', methods' and adapters'."""
    found = schema()
    titles = {name: _title(name) for name in found["$defs"]}
    sections = [("Recipe", found), *((titles[name], each) for name, each in found["$defs"].items())]
    for kind, (key, names) in CHOSEN.items():
        chosen = found["properties"][key]["oneOf"][1:]
        titled = [f"{kind.capitalize()} {name}" for name in names()]
        sections += zip(titled, chosen, strict=True)
    return "\n".join(["# Recipes\n", *(_section(title, each) for title, each in sections)])


def rules() -> str:
    """Return the page of all rules of lint, a row each."""
    rows = (
        f"| `{rule.name}` | {rule.severity} | {', '.join(rule.engines) or '-'} "
        f"| {_cell(rule.title)} | {_cell(_linked(rule.source))} |\n"
        for rule in RULES
    )
    head = "| rule | is | may stop | finds | known from |\n|---|---|---|---|---|\n"
    return f"{LINT}{head}{''.join(rows)}"


def _linked(source: str) -> str:
    """Turn org/name#number into links."""
    where = r"[\1](https://github.com/\2/issues/\3)"
    return re.sub(r"(([\w.-]+/[\w.-]+)#(\d+))", where, source)


def _title(name: str) -> str:
    """Return the heading of a definition: WheelFile becomes Wheel file."""
    words = "".join(f" {each.lower()}" if each.isupper() else each for each in name)
    return words.removesuffix(" section").strip().capitalize()


def _section(title: str, found: Mapping[str, Any]) -> str:
    """Return one mapping's heading and table, after what it may be instead."""
    *words, mapping = found.get("anyOf", [found])
    instead = "".join(f"Or a string: {each['description']}.\n\n" for each in words)
    required = mapping.get("required", [])
    rows = (
        f"| `{key}` | {_takes(each)} | {_default(each, key in required)} "
        f"| {_cell(each.get('description', ''))} |\n"
        for key, each in mapping["properties"].items()
    )
    return f"## {title}\n\n{mapping['description']}\n\n{instead}{TABLE}{''.join(rows)}"


def _takes(found: Mapping[str, Any]) -> str:
    """Say which values a key takes."""
    if "oneOf" in found:
        known = found["oneOf"][0]["enum"]
        kind = next(kind for kind, (_, names) in CHOSEN.items() if names() == known)
        names = (f"[`{name}`](#{kind}-{name})" for name in known)
        return f"{', '.join(names)}; or a mapping of `name` and its options"
    if "anyOf" in found:
        return " or ".join(_takes(each) for each in found["anyOf"] if each != {"type": "null"})
    if reference := found.get("$ref"):
        title = _title(reference.rpartition("/")[2])
        return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"
    if "const" in found or "enum" in found:
        values = [found["const"]] if "const" in found else found["enum"]
        return ", ".join(f"`{_written(each)}`" for each in values)
    if found["type"] == "array":
        return f"list of {_takes(found['items'])}"
    return _cell(f"{found['type']}{_bounds(found)}")


def _bounds(found: Mapping[str, Any]) -> str:
    """Say between which values a number must be."""
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
        "pattern": "of the form",
    }
    return "".join(f", {word} `{found[key]}`" for key, word in words.items() if key in found)


def _default(found: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = found.get("default")
    if default is None:
        return ""
    if isinstance(default, dict):
        return "that section's defaults"
    return f"`{_written(default)}`"


def _written(value: object) -> str:
    """Return a value as a recipe writes it."""
    written: str = yaml.safe_dump(value, default_flow_style=True)
    return written.removesuffix("\n").removesuffix("\n...")


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
