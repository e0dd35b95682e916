"""The command that puts models side by side: a table for people, or one for machines."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.options import FILE, client_for, example, hub_option, json_option, print_json
from hubq.errors import UserError
from hubq.machine.files import write_atomically

if TYPE_CHECKING:
    from hubq.stages.compare.comparison import Family

PICTURES = (".png", ".svg")


@click.command(
    epilog=example(
        "hubq compare model_cards/*\n  hubq compare runs/mine acme/Llama-3-8B-AWQ-4bit --plot q.png"
    )
)
@click.argument("models", metavar="RUN_OR_REPO...", nargs=-1, required=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print markdown tables.")
@click.option("--plot", type=FILE, help="Draw quality against bits: a .png or .svg file.")
@hub_option
@json_option
def compare(  # noqa: PLR0913 - click passes each option on its own
    models: tuple[str, ...],
    as_csv: bool,
    as_markdown: bool,
    plot: Path | None,
    hub: str | None,
    as_json: bool,
) -> None:
    """Compare measured models side by side, with the Pareto front marked.

    Each is a run folder, a folder with report.json or hubq/report.json, a record of `hubq evaluate
    --model`, or a repo (org/name, of which only the report is fetched). On the front are the models
    that no other clearly beats: with less loss at no more bits of the whole file, or no more loss
    at clearly fewer bits; where 95 % intervals overlap no difference is clear. Models are ranked
    only with those of the same base, measured on the same texts.
    """
    from hubq.cli.comparison_tables import print_family
    from hubq.stages.compare import tables
    from hubq.stages.compare.comparison import families
    from hubq.stages.compare.reports import gather

    if as_json + as_csv + as_markdown > 1:
        raise click.UsageError("choose one of --json, --csv and --markdown")
    if plot is not None and plot.suffix not in PICTURES:
        raise click.UsageError(f"--plot draws {' and '.join(PICTURES)} files, not {plot}")
    with client_for(hub) as client:
        found = families(gather(models, client))
    if as_json:
        print_json(tables.plain(found))
    elif as_csv:
        click.echo(tables.csv(found), nl=False)
    elif as_markdown:
        click.echo("\n".join(map(tables.markdown, found)), nl=False)
    else:
        for family in found:
            print_family(family)
    if plot is not None:
        _draw(found, plot)


def _draw(found: "list[Family]", path: Path) -> None:
    """Draw the one family that there is."""
    from hubq.stages.card.plots.quality_vs_bits import bits_figure
    from hubq.stages.card.plots.style import png, svg

    if len(found) > 1:
        raise UserError(
            f"these models form {len(found)} groups that can't be compared with each other "
            "(different bases or texts), and a picture shows one group; name the models of one "
            "group"
        )
    figure = bits_figure(found[0].entries)
    if figure is None:
        raise UserError("fewer than two of these models were measured, so there is nothing to draw")
    write_atomically(path, png(figure) if path.suffix == ".png" else svg(figure))
    click.echo(path, err=True)
