"""The commands. Only this package prints or exits; a UserError becomes one clear message.

In come arguments and recipes, out go tables, JSON and exit codes; all work is done by the stages.
It may import everything, and only `hubq.__main__` imports it. What a command runs is imported
inside functions, when it is called: `hubq --help` answers at once.
"""

import os

import click

from hubq import __version__
from hubq.cli.cards import card
from hubq.cli.catalogue import copy, methods, recipes, schema
from hubq.cli.comparing import compare
from hubq.cli.conversion import convert
from hubq.cli.evaluating import evaluate
from hubq.cli.hubs import doctor, hub, pull
from hubq.cli.linting import lint
from hubq.cli.refusals import Commands
from hubq.cli.related import siblings
from hubq.cli.reproducing import reproduce
from hubq.cli.space import space
from hubq.cli.stages import adapt, plan, publish, quantize
from hubq.cli.sweeping import sweep
from hubq.cli.talking import chat
from hubq.cli.verifying import verify
from hubq.cli.watching import watch
from hubq.client.credentials import go_direct_to_loopback


@click.group("hubq", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="hubq")
def cli() -> None:
    """Quantize, measure, document and publish LLaMA-family models on the Hugging Face Hub.

    One recipe covers every stage: plan, quantize, adapt, evaluate, card, publish. Each command runs
    the stages that are missing before it, and a second run does nothing.

    \b
    Example:
      hubq publish recipes/quickstart_awq_4bit.yaml --hub local
    """


for command in (plan, quantize, adapt, evaluate, card, publish):
    cli.add_command(command)
for command in (
    sweep,
    compare,
    methods,
    recipes,
    copy,
    schema,
    convert,
    lint,
    verify,
    siblings,
    watch,
    pull,
    reproduce,
    chat,
    space,
    hub,
    doctor,
):
    cli.add_command(command)


def prepare_environment() -> None:
    """Set what libraries read when they are imported."""
    # The libraries' own bars would tear ours apart; they read these when they are imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    go_direct_to_loopback()
    # Threads that spin at each other's end make a busy machine several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Run the command line."""
    prepare_environment()
    cli()
