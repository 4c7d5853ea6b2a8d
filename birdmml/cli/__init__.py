"""The command line: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from birdmml import __version__
from birdmml.cli import audit, bench, build, data, leaderboard, prepare, push, salvage, score, species, submit, train
from birdmml.cli._options import command
from birdmml.cli.xor import OrXor
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


app.command("build")(command(build.BuildCommand))
app.command()(data.info)
app.command()(data.validate)
app.command("prepare")(command(prepare.PrepareCommand))
app.command("audit")(command(audit.AuditCommand))
app.command("train")(command(train.TrainCommand))
app.command()(data.embed)
app.command("bench", cls=OrXor)(command(bench.BenchCommand))
app.command("score")(command(score.ScoreCommand))
app.add_typer(leaderboard.group, name="leaderboard")
app.command("submit")(command(submit.SubmitCommand))
app.command("verify")(command(submit.VerifyCommand))
app.command("push")(command(push.PushCommand))
app.command("push-model")(command(push.PushModelCommand))
app.command()(species.species)
app.command()(salvage.salvage)
app.command("list")(data.list_all)


def main() -> None:
    """Run the command line; exit 0 when done, 1 when something failed, 2 for wrong usage, 130 for Ctrl-C in a build."""
    try:
        app()
    except BirdmmlError as e:
        typer.echo(f"birdmml: {e}", err=True)
        sys.exit(e.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # The reader of our output has left; there is nobody to tell.
        sys.exit(1)
