"""The command that moves a quantized model from one format to another."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import progress
from hubq.cli.options import FOLDER, client_for, example, hub_option, json_option, print_json
from hubq.errors import UserError

if TYPE_CHECKING:
    from hubq.stages.convert.conversion import Conversion


@click.command(epilog=example("hubq convert ./Llama-2-7B-GPTQ --to compressed-tensors"))
@click.argument("model", metavar="FOLDER_OR_REPO")
@click.option("--to", "form", metavar="FORMAT", required=True, help="One of the formats above.")
@click.option(
    "--out",
    type=FOLDER,
    help="Where to write.  [default: NAME-FORMAT, next to the folder, or here for a repo]",
)
@click.option(
    "--lossy", is_flag=True, help="Round what the format can't hold, and report by how much."
)
@click.option("--fresh", is_flag=True, help="Replace the result of an earlier conversion.")
@hub_option
@json_option
def convert(  # noqa: PLR0913 - click passes each option on its own
    model: str,
    form: str,
    out: Path | None,
    lossy: bool,
    fresh: bool,
    hub: str | None,
    as_json: bool,
) -> None:
    """Convert a quantized model to another format without changing its integers.

    FOLDER_OR_REPO, made by hubq or by another tool, is in one of these formats, or in FP8, which
    converts to dense only. Codes, scales and zeros stay the same: each module is read back from
    the written file and compared.

    \b
    compressed-tensors  all integers except those in activation order
    awq                 4 bits
    gptq                symmetric, not in activation order
    hubq                all weights
    dense               all weights, rounded to 16 bits

    No engine reads activation order (desc_act with groups) in compressed-tensors any more: convert
    such a model to hubq, to dense, or with --lossy to 8 bits.
    """
    from hubq.stages.convert.conversion import ConversionRequest
    from hubq.stages.convert.convert import convert as transcode

    folder = _folder_of(model, hub)
    name = Path(model).resolve().name if Path(model).is_dir() else model
    place = out or _beside(model, form)
    done = transcode(
        folder, place, ConversionRequest(form, name, lossy=lossy, fresh=fresh), progress()
    )
    if as_json:
        print_json({"folder": str(place), **done.model_dump(mode="json")})
    else:
        _tell(place, done)


def _folder_of(model: str, hub: str | None) -> Path:
    """Return the model's folder on this machine; fetch a repo."""
    from hubq.client.pull import pull as bring

    if Path(model).is_dir():
        return Path(model)
    if model.startswith((".", "/", "~")) or model.partition("@")[0].count("/") != 1:
        raise UserError(f"there is no folder {model}; name one, or a repo as org/name")
    with client_for(hub) as client:
        return bring(model, None, client, progress())


def _beside(model: str, form: str) -> Path:
    """Return where the result goes by default."""
    if Path(model).is_dir():
        folder = Path(model).resolve()
        return folder.with_name(f"{folder.name}-{form}")
    return Path(f"{model.partition('@')[0].rpartition('/')[2]}-{form}")


def _tell(place: Path, done: "Conversion") -> None:
    """Print what was made, and what is proven of it."""
    from hubq.stages.convert.conversion import proof

    click.echo(place)
    click.echo(proof(done))
    for fact in done.facts:
        click.echo(fact)
