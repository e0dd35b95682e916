"""The command that lets a model answer, alone or beside its base."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import progress
from hubq.cli.options import client_for, example, hub_option
from hubq.errors import UserError
from hubq.machine.shortages import memory_for
from hubq.records.run_folder import ADAPTER_CONFIG

if TYPE_CHECKING:
    from PIL.Image import Image

    from hubq.client.client import Client
    from hubq.stages.evaluate.inference.chat import Answer, Speaker

BASE = "base"  # in place of a name: the one that the model's report names
MODEL = "hubq-demo/SmolLM2-135M-Instruct-GPTQ-4bit --hub local"


@dataclass
class Side:
    """A model in a conversation, with what it and the user said, and what it was shown."""

    name: str
    speaker: "Speaker"
    pictures: "tuple[Image, ...]" = ()
    messages: list[dict[str, str]] = field(default_factory=list)

    def asked(self, question: str, max_new_tokens: int) -> "Answer":
        """Begin to answer."""
        self.messages.append({"role": "user", "content": question})
        return self.speaker.answer(self.messages, max_new_tokens, self.pictures)

    def remember(self, said: str) -> None:
        """Keep an answer for the questions to come."""
        self.messages.append({"role": "assistant", "content": said})


@click.command(
    epilog=example(
        f'hubq chat {MODEL} "What is a llama?"\n  '
        f'hubq chat {MODEL} --beside {BASE} "What is a llama?"'
    )
)
@click.argument("model", metavar="REPO_OR_FOLDER")
@click.argument("prompt", required=False)
@click.option(
    "--beside",
    metavar="OTHER",
    help=f"Let another model answer too: a repo, a folder, a GGUF file, or `{BASE}` for the one "
    "that a hubq model was made from.",
)
@click.option(
    "--image",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Show the model a picture with the first question, if it is one that sees.",
)
@click.option("--max-new-tokens", default=100, show_default=True, help="Longest answer, in tokens.")
@hub_option
def chat(  # noqa: PLR0913 - the options of a command
    model: str,
    prompt: str | None,
    beside: str | None,
    image: Path | None,
    max_new_tokens: int,
    hub: str | None,
) -> None:
    """Talk to a model.

    Without a PROMPT, it is a conversation until you end it.
    """
    with memory_for("the answer", _what_takes_less(beside)):
        sides = _sides(model, beside, image, hub)
        if prompt is not None:
            _say(sides, prompt, max_new_tokens)
            return
        click.echo("An empty line or Ctrl-D ends the conversation.", err=True)
        while asked := _asked():
            _say(sides, asked, max_new_tokens)


def _what_takes_less(beside: str | None) -> str:
    """Say what lets models answer in less memory."""
    other = "ask a smaller model" if beside is None else "ask one model, without --beside"
    return (
        f"free memory, or {other}, with a smaller --max-new-tokens, or with "
        "HUBQ_COMPUTE_DTYPE=bfloat16, which takes half of what float32 does"
    )


def _sides(model: str, beside: str | None, image: Path | None, hub: str | None) -> list[Side]:
    """Load who answers: the other model first, since most want to know what became of it."""
    from hubq.sources.pictures.reading import picture_file
    from hubq.sources.vision import cannot_see, sees
    from hubq.stages.evaluate.inference.chat import Speaker

    pictures = (picture_file(image),) if image is not None else ()
    with client_for(hub) as client:
        folder = _folder_of(model, client)
        places = [(_short(model), folder)]
        if beside is not None:
            places.insert(0, (_title(beside), _other(beside, folder, client)))
    if pictures:
        for name, place in places:
            if not sees(place):
                raise UserError(cannot_see(name))
    return [Side(name, Speaker.load(place), pictures) for name, place in places]


def _folder_of(model: str, client: "Client") -> Path:
    """Return a model's folder on this machine; that of a run is inside the run's.

    An adapter is brought together with its base.
    """
    from hubq.client.pull import pull as bring
    from hubq.stages.evaluate.adapter_repo import with_base

    folder = Path(model)
    if not folder.is_dir():
        folder = bring(model, None, client, progress())
    inside = folder / "model"
    if not (folder / "config.json").is_file() and (inside / "config.json").is_file():
        return inside
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    return with_base(folder, client, progress()) if is_adapter else folder


def _other(beside: str, folder: Path, client: "Client") -> Path:
    """Return the folder of the model that answers beside the one in `folder`."""
    from hubq.stages.evaluate.assess import base_of, bring

    if beside == BASE:
        return base_of(folder, client, progress())
    return bring(beside, client, progress())().folder


def _title(beside: str) -> str:
    return "its base" if beside == BASE else _short(beside)


def _short(model: str) -> str:
    """Name a model: the last part of what was written."""
    return Path(model.partition("@")[0]).name or model


def _asked() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _say(sides: list[Side], question: str, max_new_tokens: int) -> None:
    """Print the answer as it comes, or two side by side, and remember them."""
    if len(sides) > 1:
        _say_side_by_side(sides, question, max_new_tokens)
        return
    (side,) = sides
    answer, said = side.asked(question, max_new_tokens), ""
    for piece in answer:
        click.echo(piece, nl=False)
        said += piece
    click.echo()
    if ending := _ending(answer, max_new_tokens):
        click.echo(ending, err=True)
    side.remember(said)


def _say_side_by_side(sides: list[Side], question: str, max_new_tokens: int) -> None:
    """Print a column for each model."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=True)
    cells: list[Text] = []
    for side in sides:
        table.add_column(Text(side.name), ratio=1, overflow="fold")
        answer = side.asked(question, max_new_tokens)
        said = "".join(answer)
        side.remember(said)
        ending = _ending(answer, max_new_tokens)
        cells.append(Text(said.strip()) + Text(f"\n\n{ending}" if ending else "", style="dim"))
    table.add_row(*cells)
    Console().print(table)


def _ending(answer: "Answer", max_new_tokens: int) -> str:
    """Say that an answer was cut off, and what lets it go on."""
    if answer.cut_at is None:
        return ""
    if answer.cut_at < max_new_tokens:
        return (
            f"(cut off after {answer.cut_at} tokens: the conversation has reached the model's "
            "limit)"
        )
    return f"(cut off after {answer.cut_at} tokens; --max-new-tokens sets how many)"
