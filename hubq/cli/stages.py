"""The commands that a recipe goes through; each runs what is missing before it."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import spent
from hubq.cli.options import LOCAL, example
from hubq.cli.options import print_json as show_json
from hubq.cli.outlook import outlook
from hubq.cli.recipe_stages import RECIPE, stage_options, stages
from hubq.cli.tables import print_plan
from hubq.errors import UserError
from hubq.machine.processes import start_together, started_together

if TYPE_CHECKING:
    from hubq.stages.publish.publish import Publication
    from hubq.stages.quantize.ranks import Ranks


@click.command(epilog=example(f"hubq plan {RECIPE}"))
@stage_options
@click.option(
    "--for",
    "gpu",
    metavar="GPU",
    help="Estimate the time on another machine's GPU from published figures: h100, 4090, ...",
)
def plan(  # noqa: PLR0913 - the options of a command
    recipe: Path, run: Path | None, fresh: bool, hub: str | None, as_json: bool, gpu: str | None
) -> None:
    """Estimate bytes, bits, memory and time; refuse what can't work.

    Reads only the model's config.json, tensor headers and tokenizer, no weights. The first time,
    it measures for a few seconds how fast this machine is.
    """
    from hubq.stages.plan.plan import destination

    with stages(recipe, run, fresh, hub) as stage:
        planned = stage.plan()
        publishing = destination(planned, stage.client)
        seen = outlook(planned, stage.run, gpu)
        if as_json:
            more = {"destination": publishing, "goes_on": stage.goes_on()}
            show_json(seen.as_json() | more)
        else:
            print_plan(seen, publishing, stage.goes_on())


@click.command(epilog=example(f"hubq quantize {RECIPE}"))
@stage_options
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    help="Share the work out among so many GPUs, by torchrun; `torchrun --nproc-per-node=N -m hubq "
    "quantize RECIPE` does the same. A run goes on by as many as it was begun by.",
)
def quantize(  # noqa: PLR0913 - the options of a command
    recipe: Path, run: Path | None, fresh: bool, hub: str | None, as_json: bool, gpus: int | None
) -> None:
    """Write the quantized checkpoint into the run folder.

    A killed run resumes where it stopped, or up to two minutes of work before, and ends with the
    same bytes.
    """
    if gpus is not None and gpus > 1:
        options = {"--run": run, "--hub": hub}
        given = [word for name, each in options.items() if each for word in (name, str(each))]
        flags = ["--fresh"] * fresh + ["--json"] * as_json
        start_together(gpus, ["quantize", str(recipe), *given, *flags])
    work = partial(_quantize, recipe, run, fresh, hub, as_json)
    if started_together() == 1:
        work(None)
    else:
        _quantize_together(work)


def _quantize_together(lead: "Callable[[Ranks], None]") -> None:
    """Let the first of several processes lead; the others follow, and say only what is theirs."""
    from hubq.stages.quantize.quantize import follow
    from hubq.stages.quantize.ranks import PeerEnded, joined

    with joined() as ranks:
        if ranks.first:
            lead(ranks)
            ranks.of_first(lambda: None)  # there is no more to do
            return
        try:
            follow(ranks)
        except (PeerEnded, KeyboardInterrupt):  # which the first tells
            sys.exit(1)
        except UserError as error:
            raise UserError(f"process {ranks.rank} of {ranks.size}: {error}") from error


def _quantize(  # noqa: PLR0913 - the options of a command
    recipe: Path,
    run: Path | None,
    fresh: bool,
    hub: str | None,
    as_json: bool,
    ranks: "Ranks | None",
) -> None:
    """Quantize, as the first of some ranks where there are others, and say what came out."""
    from hubq.stages.quantize.quantize import quantize

    with stages(recipe, run, fresh, hub, together=True) as stage:
        checkpoint = stage.checkpoint(partial(quantize, ranks=ranks) if ranks else None)
        if as_json:
            show_json(checkpoint.model_dump(mode="json"))
        else:
            click.echo(
                f"{stage.run / 'model'}: {checkpoint.weight_bytes:,} bytes of weights, "
                f"{checkpoint.linear_bits:.4g} bits per weight of the linears "
                f"({checkpoint.needed_bits:.4g} needed), "
                f"{checkpoint.model_bits:.4g} per parameter of the file"
            )


@click.command(epilog=example(f"hubq publish {RECIPE} --hub local"))
@stage_options
def publish(recipe: Path, run: Path | None, fresh: bool, hub: str | None, as_json: bool) -> None:
    """Run all stages, and push the result to the Hub.

    All files go in one commit; then the Hub's hashes are compared with those of the run. A second
    time makes no commit.
    """
    with stages(recipe, run, fresh, hub) as stage:
        published = stage.publication()
        places = {
            "run": str(stage.run),
            "card": str(stage.run / "README.md"),
            "repo": f"{published.url} ({_shown(published)}, "
            f"commit {published.commit[:12]}, {len(published.files)} files verified)",
        }
        if hub == LOCAL:  # which ends with this command
            places["look"] = f"hubq hub serve: shows {published.repo} in a browser"
        if as_json:
            seconds = {name: round(each, 2) for name, each in stage.clock.seconds.items()}
            more = {"run": places["run"], "seconds": seconds}
            show_json(published.model_dump(mode="json") | more)
        else:
            told = [f"{name:5} {place}" for name, place in places.items()]
            click.echo("\n".join([*told, *spent(stage.clock.seconds, stage.parts)]))


def _shown(published: "Publication") -> str:
    """Say who may see the release, and who lets them download."""
    gate = f", gated: {published.gated}" if published.gated else ""
    return ("private" if published.private else "public") + gate
