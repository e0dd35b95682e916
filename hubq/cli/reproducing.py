"""The command that makes a release again, and says whether it came out the same."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import progress
from hubq.cli.options import FOLDER, client_for, example, hub_option, json_option, print_json

if TYPE_CHECKING:
    from hubq.records.reproduction import Apart, Reproduction

APART = 3  # exit code
SHOWN = 5  # tensors
ANY = click.Path(path_type=Path)


@click.command(epilog=example("hubq reproduce acme/Llama-3-8B-AWQ-4bit"))
@click.argument("repo")
@click.option("--run", type=FOLDER, help="The run folder.  [default: runs/NAME-again]")
@click.option(
    "--base",
    type=ANY,
    metavar="PLACE",
    help="The folder or GGUF file that the release was made from, where that lay on its maker's "
    "machine; checked against what the release says of it.",
)
@click.option(
    "--data",
    type=ANY,
    metavar="FILE",
    multiple=True,
    help="A file of data that it was made from; likewise, by its sha256. May be repeated.",
)
@click.option("--strict", is_flag=True, help="Stop where libraries are of other versions.")
@click.option(
    "--evaluate",
    is_flag=True,
    help="Measure what was made again beside the release too: the KL divergence on the first "
    "windows of the report's first text.",
)
@hub_option
@json_option
def reproduce(  # noqa: PLR0913 - the options of a command
    repo: str,
    run: Path | None,
    base: Path | None,
    data: tuple[Path, ...],
    strict: bool,
    evaluate: bool,
    hub: str | None,
    as_json: bool,
) -> None:
    """Make a release of hubq again from its own recipe, and compare both.

    REPO is org/name or org/name@revision. The base and the data are taken at the commits that the
    release names, and it is computed in the dtype and on the threads that it was made with, as far
    as this machine has them; what differs is said. A killed run goes on where it stopped. The exit
    code is 0 where all files have the same bytes, or other bytes but the same codes and scales, and
    3 where they are apart.
    """
    from hubq.records.run_folder import locked
    from hubq.records.vocabulary import address
    from hubq.stages.reproduce.released import Given
    from hubq.stages.reproduce.reproduce import Asked
    from hubq.stages.reproduce.reproduce import reproduce as make_again

    name = address(repo).repo.rpartition("/")[2]
    folder = run or Path("runs") / f"{name}-again"
    asked = Asked(Given(base, data), strict=strict, evaluate=evaluate)
    with locked(folder), client_for(hub) as client:
        found = make_again(repo, folder, client, asked, progress())
    if as_json:
        print_json({"run": str(folder), **found.model_dump(mode="json")})
    else:
        click.echo("\n".join([f"run   {folder}", *_told(found)]))
    if found.verdict == "apart":
        click.get_current_context().exit(APART)


def _told(found: "Reproduction") -> list[str]:
    """Say what came out."""
    lines = [f"repo  {found.repo}@{found.commit[:12]}"]
    lines += [f"note  {each}" for each in found.remarks]
    if found.quantized_apart:
        lines.append(f"note  the quantized model below it has other {_few(found.quantized_apart)}")
    lines.append(_verdict(found))
    lines += [f"  {_told_apart(each)}" for each in found.tensors_apart[:SHOWN]]
    if (more := len(found.tensors_apart) - SHOWN) > 0:
        lines.append(f"  and {more:,} more: --json has all")
    if found.divergence is not None:
        nats = found.divergence.mean.value
        lines.append(
            f"KL divergence from the release, {found.text}: {nats:.3g} nats a token; the likeliest "
            f"token is the same for {found.divergence.agreement.value:.2%}"
        )
    return lines


def _verdict(found: "Reproduction") -> str:
    """Say in one sentence how far apart both are."""
    others = _few(found.files_apart)
    match found.verdict:
        case "same bytes":
            return f"the same bytes: all {found.files} files that were measured"
        case "same codes":
            return f"the same codes, scales and other weights; other bytes in {others}"
    share = found.codes_apart
    codes = "codes of other widths" if share is None else f"{share:.3%} of the codes differ"
    return f"apart: {codes}, in {len(found.tensors_apart):,} tensors; other bytes in {others}"


def _told_apart(each: "Apart") -> str:
    """Say how far a tensor is from the release's."""
    share = "of another width or shape"
    if each.codes_apart is not None:
        share = f"{each.codes_apart / max(1, each.codes):.3%} of its codes"
    if each.scales_apart:
        share += f", {each.scales_apart / max(1, each.scales):.3%} of its scales and zeros"
    if each.mean is None or each.largest is None:
        return f"{each.name}: {share}"
    if each.step:
        how = f"{each.mean / each.step:.3g} and {each.largest / each.step:.3g} steps"
    else:
        how = f"{each.mean:.3g} and {each.largest:.3g}"
    return f"{each.name}: {share}; mean and largest difference {how}"


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
