"""The `kash-pipeline` command: loads each sub-command only when it is asked for.

Only dispatch and the last handling of errors belong here; a command lives in the module of its name. Commands that
need no Dagster never import it, so `kash-pipeline build` starts in about a second.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from kash_pipeline import __version__
from kash_pipeline.errors import KashPipelineError

# command -> (module, attribute, one line of help shown without importing the module)
COMMANDS = {
    "build": ("kash_pipeline.cli.build", "build", "Facts in a folder to entries in a folder; no server needed."),
    "fec": ("kash_pipeline.cli.fec", "fec", "Write entries as a French FEC file."),
    "run": ("kash_pipeline.cli.run", "run", "Extract, build and publish days as Dagster runs."),
    "demo": ("kash_pipeline.cli.demo", "demo", "The whole chain on the sandbox shop."),
    "ui": ("kash_pipeline.cli.ui", "ui", "Dagster's UI with the sandboxes; Ctrl-C stops everything."),
    "sandbox": ("kash_pipeline.cli.sandbox", "sandbox", "Serve the sandbox Kash.click and PennyLane."),
    "pennylane": ("kash_pipeline.cli.pennylane", "pennylane", "Connect, show or end the connection to PennyLane."),
    "kash": ("kash_pipeline.cli.kash", "kash", "Log in to Kash.click, probe an account, keep or drop raw answers."),
    "trace": ("kash_pipeline.cli.trace", "trace", "From an entry to its orders and raw answers, and back."),
    "z-report": ("kash_pipeline.cli.z_report", "z_report", "The Z report of a register's day as a PDF."),
    "plan": ("kash_pipeline.cli.plan", "plan", "What would be posted, against what the ledger holds."),
    "apply": ("kash_pipeline.cli.plan", "apply", "Post exactly what plan showed."),
    "held": ("kash_pipeline.cli.held", "held", "Days that wait, with the next step for each."),
    "release": ("kash_pipeline.cli.release", "release", "Build the held days whose reasons are cured."),
    "mapping": ("kash_pipeline.cli.mapping", "mapping", "Propose, check, compare the accounts of both systems."),
    "customers": ("kash_pipeline.cli.customers", "customers", "Forget a customer who asks for it."),
}


@contextmanager
def _usage_errors_exit_1() -> Iterator[None]:
    """Click's exit code for a command typed wrongly is 2, which here means "some days are held"."""
    try:
        yield
    except click.UsageError as error:
        error.exit_code = 1  # type: ignore[misc]
        raise


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        with _usage_errors_exit_1():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> object:
        with _usage_errors_exit_1():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kash-pipeline")
def cli() -> None:
    """From a Kash.click till to PennyLane books, to the cent and exactly once."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors meant for the user become two lines on standard error and exit code 1.

    Exit codes of every command: 0 all is done, 1 it could not work (a command typed wrongly too), 2 it worked and
    something waits for a person.

    `arguments` are those of the process when left out.
    """
    try:
        cli.main(args=arguments, prog_name="kash-pipeline", standalone_mode=True)
    except KashPipelineError as error:
        click.echo(f"kash-pipeline: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
