"""Where errors end: what the user can mend is said in one message, the rest is a bug."""

import sys
from typing import Any

import click

from hubq.errors import UserError
from hubq.machine.shortages import explain, is_out_of_memory, out_of_memory

INTERRUPTED = 130  # what shells expect after Ctrl-C


class Refusal(click.ClickException):
    """A message for the user and exit code 1."""

    def show(self, file: Any = None) -> None:  # noqa: ANN401 - click's signature
        """Print the message as it is."""
        click.echo(self.message, file=file or sys.stderr)


class Commands(click.Group):
    """The top of the command line: the one place that turns exceptions into exit codes."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run a command; say what went wrong and the way out."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise Refusal(str(error)) from error
        except KeyboardInterrupt as stop:
            said = "\nInterrupted. Finished work is kept: run again to continue."
            click.echo("\n".join([said, *map(str, stop.args)]), err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # click ends quietly when a reader such as `head` has had enough
        except OSError as error:
            raise Refusal(explain(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            way_out = "free memory, or use a machine with more of it, then run again"
            raise Refusal(out_of_memory("hubq", way_out)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List commands in the order of the work, not of the alphabet."""
        return list(self.commands)
