"""What hubq brings along: its methods, its recipes and the schema of recipes."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hubq.cli.options import FILE, example, json_option, print_json
from hubq.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hubq.method import Method


def shipped() -> dict[str, Path]:
    """Return the recipes that come with hubq, by name."""
    import hubq

    folder = Path(hubq.__file__).parent / "recipes"  # in the repository a link to recipes/
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


@click.command(epilog=example("hubq recipes | grep awq"))
@json_option
def recipes(as_json: bool) -> None:
    """List the recipes that hubq ships, and for whom each is."""
    found = {name: _for_whom(path) for name, path in shipped().items()}
    if as_json:
        print_json(found)
        return
    width = max(map(len, found), default=0)
    for name, whom in found.items():
        click.echo(f"{name:{width}}  {whom}")


def _for_whom(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


@click.command(epilog=example("hubq copy awq_4bit mine.yaml"))
@click.argument("name")
@click.argument("file", type=FILE)
def copy(name: str, file: Path) -> None:
    """Copy a shipped recipe into a file of yours, to change it."""
    found = shipped()
    known = name.removesuffix(".yaml")
    if known not in found:
        raise UserError(f"no recipe is called {name}; {did_you_mean(known, found)}")
    if file.exists():
        raise UserError(f"{file} exists and is not overwritten; name another file")
    shutil.copyfile(found[known], file)
    click.echo(f"{file}: set publish.org, then run: hubq plan {file}")


@click.command(epilog=example("hubq methods"))
@json_option
def methods(as_json: bool) -> None:
    """List the methods, what each does and which options it has."""
    from hubq import method

    found = {name: _about(method.method_class(name)) for name in method.methods()}
    if as_json:
        print_json(found)
        return
    for name, about in found.items():
        options = (f"{each['name']} {each['default']}" for each in about["options"])
        data = "calibration data" if about["needs"] else "no data"
        click.echo(f"{name}: {about['does']}")
        click.echo(f"  needs {data}; {', '.join(options)}\n  {about['paper']}")


def _about(method: "type[Method]") -> dict[str, Any]:
    """Return what a class says of its method."""
    return {
        "title": method.title,
        "does": (method.__doc__ or "").strip().splitlines()[0],
        "needs": sorted(method.needs),
        "options": [
            {"name": name, "default": field.default, "description": field.description}
            for name, field in method.model_fields.items()
        ],
        "paper": method.paper,
    }


@click.command(epilog=example("hubq schema > recipe.schema.json"))
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from hubq.recipe_schema import schema as made

    print_json(made())
