"""`birdmml leaderboard`: check results and set them side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdmml.cli import board, board_push, board_review

group = typer.Typer(
    help="Check results and set them side by side.", no_args_is_help=True, rich_markup_mode=None
)


@group.callback()
def _group() -> None:
    """Check results and set them side by side."""


@group.command()
def table(
    results: Annotated[list[Path], typer.Argument(help="Result folders, or folders that hold some.")],
    allow_demo: Annotated[bool, typer.Option("--allow-demo", help="Show demo results too, marked.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the Markdown here instead of printing it.")] = None,
) -> None:
    """Compute every figure again from its per-item predictions, then write one Markdown table.

    A result whose figures do not follow is refused, and so is the demo unless --allow-demo is given.
    """
    from birdmml.files import write_text
    from birdmml.leaderboard.verify import find, load
    from birdmml.standings import leaderboard

    verified = load(find(results), allow_demo)
    text = leaderboard(verified)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
    typer.echo(f"{len(verified)} results checked; table in {out}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    board.register(group)
    board_review.register(group)
    board_push.register(group)
    app.add_typer(group, name="leaderboard")
