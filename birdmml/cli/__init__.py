"""The command line: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from birdmml import __version__
from birdmml.cli import (
    audit,
    bench,
    build,
    data,
    embed,
    leaderboard,
    prepare,
    push,
    push_model,
    salvage,
    score,
    species,
    submit,
    train,
)
from birdmml.cli import list as plugins
from birdmml.errors import BirdmmlError

HELP = f"""birdmml {__version__}: build, audit and benchmark image-audio-text datasets of birds.

\b
  birdmml build --out ./data             an offline demo dataset, in seconds
  birdmml build --source folder --from DIR --out ./data
  birdmml info ./data                    what is in it
  birdmml bench --method confu           train and score a model on it
"""

app = typer.Typer(
    name="birdmml",
    help=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for group in (
    build,
    data,
    prepare,
    audit,
    train,
    embed,
    bench,
    score,
    leaderboard,
    submit,
    push,
    push_model,
    species,
    salvage,
    plugins,
):
    group.register(app)


def main() -> None:
    """Run the command line; exit 0 when done, 1 when something failed, 2 for wrong usage, 130 for Ctrl-C in a build."""
    try:
        app()
    except BirdmmlError as e:
        _fail(str(e), e.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # The reader of our output has left; there is nobody to tell.
        sys.exit(1)


def _fail(message: str, code: int) -> None:
    typer.echo(f"birdmml: {message}", err=True)
    sys.exit(code)
