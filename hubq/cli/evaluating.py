"""The command that measures: a recipe's result, or any model beside any base."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hubq.cli.bars import progress
from hubq.cli.options import FILE, FOLDER, Command, client_for, example, hub_option, json_option
from hubq.cli.options import print_json as show_json
from hubq.cli.recipe_stages import RECIPE, stages
from hubq.cli.reports import print_report
from hubq.errors import UserError
from hubq.machine.files import read_object

if TYPE_CHECKING:
    from hubq.records.recipe_evaluate import EvaluateSection
    from hubq.records.recipe_inputs import ModelSection
    from hubq.records.record import Record
    from hubq.records.report import Measured

Section = TypeVar("Section", bound="Record")
ANY = "hubq evaluate --model acme/Llama-3-8B-AWQ --against meta-llama/Meta-Llama-3-8B piqa arc_easy"


@dataclass(frozen=True)
class ModelOptions:
    """What the options for any model say."""

    model: str | None
    against: str | None
    perplexity: tuple[str, ...]
    length: int | None
    windows: int | None
    shots: int | None
    limit: int | None
    chat_template: bool
    skip: tuple[str, ...]
    out: Path | None

    def given(self) -> list[str]:
        """Name the options that were written."""
        return [name for name, value in vars(self).items() if value not in (None, (), False)]


def options_for_any(command: Command) -> Command:
    """Add what says which model is measured, and how."""
    decorators: list[Callable[[Any], Any]] = [
        click.option(
            "--out", type=FILE, help="Where to write the record.  [default: NAME.evaluation.json]"
        ),
        click.option(
            "--skip",
            multiple=True,
            type=click.Choice(["fidelity", "efficiency"]),
            help="Don't measure this. Fidelity needs a text (--perplexity).",
        ),
        click.option(
            "--chat-template", is_flag=True, help="Format prompts with the model's chat template."
        ),
        click.option("--limit", type=int, help="Items per task.  [default: all]"),
        click.option("--shots", type=int, help="Few-shot examples.  [default: the task's own]"),
        click.option("--windows", type=int, help="Windows of each text.  [default: all]"),
        click.option("--length", type=int, help="Tokens per window.  [default: 2048]"),
        click.option(
            "--perplexity",
            metavar="TEXT",
            multiple=True,
            help="wikitext2, c4, ptb, org/name, a file, or a mapping as in a recipe.",
        ),
        click.option("--against", metavar="BASE", help="The 16-bit model it was made from."),
        click.option("--model", metavar="MODEL", help="Measure this model, not a recipe's."),
    ]
    return reduce(lambda decorated, add: add(decorated), decorators, command)


@click.command(epilog=example(f"hubq evaluate {RECIPE}\n  {ANY}"))
@click.argument("words", metavar="RECIPE | TASK...", nargs=-1)
@options_for_any
@click.option("--run", type=FOLDER, help="The run folder.  [default: runs/<recipe's name>]")
@click.option("--fresh", is_flag=True, help="Discard what the run folder holds.")
@hub_option
@json_option
def evaluate(
    words: tuple[str, ...],
    run: Path | None,
    fresh: bool,
    hub: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - those of ModelOptions
) -> None:
    """Measure a checkpoint and its base.

    Both are loaded from disk in a fresh process, the way a downloader would load them. With a
    RECIPE, the recipe's result is measured; it is quantized first if it isn't there yet.

    With --model and --against, any model is measured: a folder, a repo (org/name,
    org/name@revision) or a GGUF file. The arguments are then TASKs of lm-eval or hubq, and the
    record is written to --out.
    """
    asked = ModelOptions(**options)
    if asked.model is None:
        with stages(_recipe(words, asked), run, fresh, hub) as stage:
            _show(stage.report(), as_json)
        return
    if run is not None or fresh:
        raise click.UsageError("--run and --fresh are for a recipe; with --model there is no run")
    place = asked.out or Path(f"{_short(asked.model)}.evaluation.json")
    _refuse_overwriting(place)
    with client_for(hub) as client:
        from hubq.stages.evaluate.assess import assess

        against, section = _against(asked), _section(asked, words)
        found = assess(asked.model, against, section, client, progress())
    found.save(place)
    _show(found, as_json)
    click.echo(place, err=as_json)


def _refuse_overwriting(place: Path) -> None:
    """Refuse to write the record over what is no such record."""
    try:
        is_record = not place.exists() or {"subject", "measurements"} <= read_object(place).keys()
    except UserError:
        is_record = False
    if not is_record:
        raise UserError(f"{place} exists and is not an evaluation; name another file with --out")


def _recipe(words: tuple[str, ...], asked: ModelOptions) -> Path:
    """Return the recipe; refuse what only goes with --model."""
    if others := asked.given():
        raise click.UsageError(
            f"--{others[0].replace('_', '-')} is only for --model; a recipe sets this itself"
        )
    if len(words) != 1:
        raise click.UsageError("name one RECIPE, or a model with --model and --against")
    return Path(words[0])


def _against(asked: ModelOptions) -> "ModelSection":
    """Read which model is the base."""
    from hubq.records.recipe_inputs import ModelSection

    if asked.against is None:
        raise click.UsageError("--model needs --against BASE: the 16-bit model it was made from")
    if Path(asked.against).is_dir():
        return ModelSection(folder=Path(asked.against))
    return _read(ModelSection, _written(asked.against), "--against")


def _section(asked: ModelOptions, tasks: tuple[str, ...]) -> "EvaluateSection":
    """Read what is to be measured."""
    from hubq.records.recipe_evaluate import EvaluateSection

    sizes = {"length": asked.length, "windows": asked.windows}
    given = {name: each for name, each in sizes.items() if each is not None}
    way = {"shots": asked.shots, "chat_template": asked.chat_template}
    values = {
        "perplexity": [{"dataset": _written(each), **given} for each in asked.perplexity],
        "tasks": [{"name": name, **way} for name in tasks],
        "limit": asked.limit,
        **dict.fromkeys(asked.skip),
    }
    return _read(EvaluateSection, values, "what to measure")


def _written(word: str) -> Any:  # noqa: ANN401 - any YAML
    """Read a word, or a mapping as it would stand in a recipe."""
    from hubq.records.yaml_lines import parse

    if not word.startswith("{"):
        return word
    marked = parse(word)
    if marked.mistakes:
        raise UserError(f"{word}: {marked.mistakes[0][1]}")
    return marked.values


def _read(kind: "type[Section]", values: object, where: str) -> "Section":
    """Check values as a recipe's would be; raise UserError with all mistakes."""
    from pydantic import ValidationError

    from hubq.records.yaml_lines import MarkedYaml
    from hubq.stages.recipe.validation_errors import explain

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = explain(error.errors(), kind, MarkedYaml())
        raise UserError("\n".join(f"{where}: {sentence}" for _, sentence in mistakes)) from error


def _short(model: str) -> str:
    """Name a model's record: after the repo, the folder or the file."""
    if Path(model).is_dir():
        return Path(model).resolve().name
    return Path(model.partition("@")[0]).name.removesuffix(".gguf")


def _show(measured: "Measured", as_json: bool) -> None:
    if as_json:
        show_json(measured.model_dump(mode="json"))
    else:
        print_report(measured)
