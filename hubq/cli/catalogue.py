"""What hubq brings along: its methods, its recipes and the schema of recipes."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click

from hubq.cli.options import FILE, example, json_option, print_json
from hubq.cli.tables import print_adapters, print_methods
from hubq.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hubq.methods import Method
    from hubq.methods.adapters import Adapter

TYPICAL = (4096, 4096)  # outputs and inputs of a layer that every method and format is made for
EVERYTHING = "dense"  # holds each result in 16 bits, so it isn't listed with every method


def shipped() -> dict[str, Path]:
    """Return the recipes that come with hubq, by name."""
    import hubq

    # In the repository a link to recipes/.
    folder = Path(hubq.__file__).parent / "stages" / "recipe" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


@click.command(epilog=example("hubq recipes | grep awq"))
@json_option
def recipes(as_json: bool) -> None:
    """List the recipes that ship with hubq, and who each is for."""
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
    """Copy a shipped recipe to a file of your own, to change it."""
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
    """List the methods: bits, options with defaults, formats that hold the result, papers.

    After them come the adapters, which teach or correct what a method has quantized.
    """
    from hubq import methods as registry
    from hubq.methods import adapters

    found = {name: _about(registry.method_class(name)) for name in registry.methods()}
    adapting = {name: _adapter(adapters.adapter_class(name)) for name in adapters.adapters()}
    if as_json:
        print_json(found | {"adapters": adapting})
        return
    print_methods(found)
    print_adapters(adapting)


def _about(method: "type[Method]") -> dict[str, Any]:
    """Return what a class says of its method."""
    return {
        "title": method.title,
        "does": _does(method),
        "needs": sorted(method.needs),
        "bits": sorted({made.nominal_bits for made in _settings(method)}),
        "options": _options(method),
        "formats": _formats(method),
        "paper": method.paper,
    }


def _adapter(adapter: "type[Adapter]") -> dict[str, Any]:
    """Return what a class says of its adapter."""
    return {
        "title": adapter.title,
        "does": _does(adapter),
        "makes": adapter.makes,
        "options": _options(adapter),
        "paper": adapter.paper,
    }


def _does(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _options(kind: "type[Method] | type[Adapter]") -> list[dict[str, Any]]:
    """List the options of a method or an adapter, with their defaults; None: there is none."""
    return [
        {
            "name": name,
            "default": None if field.is_required() else field.default,
            "allowed": _allowed(kind, name) or None,
            "description": field.description,
        }
        for name, field in kind.model_fields.items()
    ]


def _allowed(kind: "type[Method] | type[Adapter]", option: str) -> list[Any]:
    """List the values of an option that has only a few."""
    annotation = kind.model_fields[option].annotation
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def _formats(method: "type[Method]") -> dict[str, list[float]]:
    """Return the formats that hold the method's result, with some options, and at which bits."""
    import torch

    from hubq.formats import format_named, formats

    found: dict[str, list[float]] = {}
    for name in formats():
        if name == EVERYTHING:
            continue
        form = format_named(name)
        for made in _settings(method):
            sketch = made.sketch(TYPICAL, form.scale_dtype(torch.bfloat16))
            fits = form.why_unsupported(sketch) is None
            if fits and made.nominal_bits not in found.setdefault(name, []):
                found[name].append(made.nominal_bits)
    return {name: bits for name, bits in found.items() if bits}


def _settings(method: "type[Method]") -> Iterator["Method"]:
    """Yield the method with each combination that there is of options with only a few values."""
    few = {name: _allowed(method, name) for name in method.model_fields}
    if "symmetric" in few:
        few["symmetric"] = [False, True]
    choices = {name: values for name, values in few.items() if values}
    for values in product(*choices.values()):
        with suppress(ValueError):  # of those that contradict one another
            yield method.model_validate(dict(zip(choices, values, strict=True)))


@click.command(epilog=example("hubq schema > recipe.schema.json"))
def schema() -> None:
    """Print the JSON Schema for recipes, for editors."""
    from hubq.stages.recipe.schema import schema as made

    print_json(made())
