"""The commands that a recipe goes through; each runs what is missing before it."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import spent
from hubq.cli.matrix_tables import plan_matrix, show_matrix
from hubq.cli.options import FILE, LOCAL, example
from hubq.cli.options import print_json as show_json
from hubq.cli.outlook import outlook
from hubq.cli.recipe_stages import RECIPE, WITH_ADAPTER, stage_options, stages
from hubq.cli.related import follow
from hubq.cli.related import told as follows
from hubq.cli.releasing import publications
from hubq.cli.tables import print_plan
from hubq.errors import UserError
from hubq.machine.processes import start_together, started_together
from hubq.records.run_folder import ADAPTED, MODEL

if TYPE_CHECKING:
    from hubq.records.adaptation import Adaptation
    from hubq.stages.publish.afterwards import Rows
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
@click.option(
    "--price-per-hour",
    "price",
    type=click.FloatRange(min=0),
    help="Of a matrix: what an hour of the machine costs, for the sum of money.",
)
def plan(  # noqa: PLR0913 - the options of a command
    recipe: Path,
    run: Path | None,
    fresh: bool,
    hub: str | None,
    as_json: bool,
    gpu: str | None,
    price: float | None,
) -> None:
    """Estimate bytes, bits, memory and time; refuse what can't work.

    Reads only the model's config.json, tensor headers and tokenizer, no weights. The first time,
    it measures for a few seconds how fast this machine is. Of a matrix all recipes are shown in
    one table with their sums, and nothing is saved.
    """
    from hubq.stages.plan.hub_room import storage
    from hubq.stages.plan.plan import destination
    from hubq.stages.publish.versions import mention
    from hubq.stages.recipe.matrix import is_matrix

    if is_matrix(recipe):
        if run is not None or fresh:
            raise click.UsageError("a matrix has no run folder: leave out --run and --fresh")
        show_matrix(plan_matrix(recipe, hub, gpu, price), json=as_json)
        return
    if price is not None:
        raise click.UsageError("--price-per-hour is for the sum of a matrix")
    with stages(recipe, run, fresh, hub) as stage:
        planned = stage.plan()
        publishing = destination(planned, stage.client)
        stored, lacking = storage(planned, stage.client)
        if not publishing.startswith("not checked"):
            publishing = "; ".join(filter(None, [publishing, mention(planned, stage.client)]))
        seen = outlook(planned, stage.run, gpu)
        seen.lacking.extend([lacking] if lacking else [])
        if as_json:
            more = {"destination": publishing, "storage": stored, "goes_on": stage.goes_on()}
            show_json(seen.as_json() | more)
        else:
            print_plan(seen, (publishing, stored), stage.goes_on())


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


@click.command(epilog=example(f"hubq adapt {WITH_ADAPTER}"))
@stage_options
def adapt(recipe: Path, run: Path | None, fresh: bool, hub: str | None, as_json: bool) -> None:
    """Teach or correct the quantized model, as the recipe's section adapt says.

    What comes out lies in the folder `adapted` of the run folder. A killed run resumes where it
    stopped, and ends with the same bytes.
    """
    with stages(recipe, run, fresh, hub) as stage:
        adaptation = stage.adaptation()
        if as_json:
            show_json(adaptation.model_dump(mode="json"))
        else:
            place = stage.run / ADAPTED / MODEL
            click.echo("\n".join([f"{place}: {_made(adaptation)}", *_learnt(adaptation)]))


def _made(adaptation: "Adaptation") -> str:
    """Say what came out, and what it takes."""
    what = "an adapter" if adaptation.makes == "adapter" else "a whole model"
    merged = f", merged ({adaptation.merged})" if adaptation.merged else ""
    return (
        f"{what}{merged} by {adaptation.name}: {adaptation.parameters:,} parameters, "
        f"{adaptation.weight_bytes:,} bytes, {adaptation.added_bits:.4g} bits more per weight of "
        "the linears"
    )


def _learnt(adaptation: "Adaptation") -> list[str]:
    """Say what a training did to the loss on pairs that it did not see."""
    found = adaptation.held_out
    if found is None:
        return []
    return [
        f"loss on {found.pairs} pairs that were held out: {found.before:.4g} before, "
        f"{found.after:.4g} after {adaptation.steps:,} steps"
    ]


@click.command(epilog=example(f"hubq publish {RECIPE} --hub local"))
@stage_options
@click.option(
    "--no-reload",
    is_flag=True,
    help="Only download and compare what waits on the Hub; don't load it before it goes on main.",
)
@click.option(
    "--sign-key",
    type=FILE,
    help="Sign the release by this private key of an elliptic curve, in PEM; HUBQ_SIGNING_KEY "
    "names it too, and HUBQ_SIGNING_PASSPHRASE holds the passphrase of an encrypted one.",
)
@click.option(
    "--sign-as",
    metavar="IDENTITY",
    help="Sign it as this e-mail address or workflow, by Sigstore; HUBQ_SIGNING_IDENTITY too.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Replace another release in that repo: it is tagged, and CHANGELOG.md says what changed.",
)
@click.option(
    "--no-collection",
    is_flag=True,
    help="Don't add it to the organization's collection of its base.",
)
@click.option(
    "--siblings",
    "rows",
    type=click.Choice(["propose", "commit", "leave"]),
    default="propose",
    show_default=True,
    help="How the cards of the base's other releases get a row for this one: by pull requests, by "
    "commits to their main, or not now.",
)
def publish(  # noqa: PLR0913 - the options of a command
    recipe: Path,
    run: Path | None,
    fresh: bool,
    hub: str | None,
    as_json: bool,
    no_reload: bool,
    sign_key: Path | None,
    sign_as: str | None,
    update: bool,
    no_collection: bool,
    rows: "Rows",
) -> None:
    """Run all stages, and push the result to the Hub.

    The files wait in a pull request until they were downloaded from there, compared with the
    run's and loaded as the card says; then they go on main in one commit. If something differs,
    main stays as it was. A second time makes no commit. Nothing is pushed that `hubq lint` finds
    errors in. Of a recipe with an adapter the quantized model is published first, then the
    adapter, each in its own repo. What follows can't undo it: the collection of the base's
    releases, and their rows on one another's cards.
    """
    from hubq.stages.publish.signing import signing_by

    if sign_key and sign_as:
        raise click.UsageError("--sign-key and --sign-as are two ways to sign: name one")
    with signing_by(sign_key, sign_as), stages(recipe, run, fresh, hub) as stage:
        done = publications(stage, load=not no_reload, update=update)
        *before, published = done
        after = follow(stage, done, rows, collection=not no_collection)
        folder = stage.run / ADAPTED if stage.recipe.adapt else stage.run
        places = {
            "run": str(stage.run),
            "card": str(folder / "README.md"),
            **({"base": _place(before[0])} if before else {}),
            "repo": _place(published),
        }
        seen = [f"seen  {each}" for one in (*before, published) for each in one.seen]
        if hub == LOCAL:  # which ends with this command
            places["look"] = f"hubq hub serve: shows {published.repo} in a browser"
        if as_json:
            seconds = {name: round(each, 2) for name, each in stage.clock.seconds.items()}
            more: dict[str, object] = {"run": places["run"], "seconds": seconds}
            if before:
                more["quantized"] = before[0].model_dump(mode="json")
            show_json(published.model_dump(mode="json") | more | {"after": after.as_json()})
        else:
            told = [f"{name:5} {place}" for name, place in places.items()]
            parts = spent(stage.clock.seconds, stage.parts)
            click.echo("\n".join([*told, *seen, *follows(after), *parts]))


def _place(published: "Publication") -> str:
    """Say where a release is, and that it is whole."""
    return (
        f"{published.url} ({_shown(published)}, commit {published.commit[:12]}, "
        f"{len(published.files)} files verified)"
    )


def _shown(published: "Publication") -> str:
    """Say who may see the release, and who lets them download."""
    gate = f", gated: {published.gated}" if published.gated else ""
    return ("private" if published.private else "public") + gate
