"""The command line, as tests call it."""

from click.testing import CliRunner, Result

from hubq.cli import cli


def hubq(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])
