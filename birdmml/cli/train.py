"""`birdmml train`: train a method and keep its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmml.cli._show import DEMO_BANNER
from birdmml.cli.bench import facts, needs_data, writable
from birdmml.errors import Interrupted, TrainingError, UsageError

if TYPE_CHECKING:
    from birdmml.train import Trained
    from birdmml.training.plan import Plan


def train(
    method: Annotated[str, typer.Option(help="What to train; see `birdmml list`.")] = "confu",
    data: Annotated[Path, typer.Option(help="A dataset that `birdmml build` made.")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Where the checkpoints and the journal go.")] = Path("model"),
    preset: Annotated[str, typer.Option(help="Sizes: tiny, small or paper.")] = "tiny",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where --out ends, if it was begun.")
    ] = False,
    every: Annotated[int, typer.Option(help="Keep the state every N steps; 0: after each epoch.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many models to train, a folder each.")] = 1,
    seed: Annotated[int, typer.Option(help="The first model's seed.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step, over all processes.")] = None,
    chunk_size: Annotated[
        int | None, typer.Option(help="Rows through the encoders at once; the loss sees the whole batch.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    false_negatives: Annotated[
        str | None, typer.Option(help="Rows of one species as negatives: keep or mask.")
    ] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="A transformers vision model: a folder, or a name on the hub.")
    ] = None,
    audio_encoder: Annotated[
        str | None, typer.Option(help="A spectrogram or vision model for the log-mel.")
    ] = None,
    text_encoder: Annotated[str | None, typer.Option(help="A text model, with its tokenizer.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Where named models start: pretrained or scratch; must be said.")
    ] = None,
    freeze: Annotated[str | None, typer.Option(help="Encoders that do not learn: image,text.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most N rows a split.")] = None,
    tracker: Annotated[
        list[str] | None, typer.Option(help="Any tracker of accelerate; TensorBoard is used if installed.")
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting: training.clip_norm=1, method.temperature=0.1."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Say sizes, memory and work of the training; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a method on a built dataset; killed, it goes on with --resume as if nothing had happened.

    \b
    birdmml train --method confu --out ./model
    birdmml bench --checkpoint ./model
    """
    needs_data(data)
    from birdmml.device import lacks_memory
    from birdmml.training.machine import is_main
    from birdmml.training.plan import describe, plan, run

    named: dict[str, int | str | None] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "chunk_size": chunk_size,
    }
    named |= {"precision": precision, "false_negatives": false_negatives}
    overrides = list(assign or []) + [f"training.{k}={v}" for k, v in named.items() if v is not None]
    models = {"image": image_encoder, "audio": audio_encoder, "text": text_encoder}
    overrides += _encoders(models, weights, freeze)
    made = plan(data, method, preset, overrides, seeds, seed, device, limit)
    if dry_run:
        about = describe(made)
        typer.echo(json.dumps(about, indent=2, ensure_ascii=False) if as_json else facts(about))
        return
    writable(out)
    main = is_main()
    if main and not as_json:
        typer.echo("\n".join(_opening(made, out)))
    try:
        done = run(made, out, every, resume, tracker or (), as_json)
    except KeyboardInterrupt as e:
        raise Interrupted(f"interrupted: {out} keeps what was done; add --resume to go on") from e
    except OSError as e:
        if lacks_memory(e):
            raise TrainingError(
                "out of memory on cpu: lower training.batch_size or training.workers, or set --chunk-size"
            ) from e
        raise TrainingError(
            f"{out} cannot be written ({e.strerror or e}): free space, then go on with --resume"
        ) from e
    if main:
        typer.echo(_report(made, out, done, as_json))


def _encoders(models: dict[str, str | None], weights: str | None, freeze: str | None) -> list[str]:
    named = {kind: name for kind, name in models.items() if name}
    if named and weights is None:
        raise UsageError(
            f"--{next(iter(named))}-encoder is given: say --weights pretrained to start from its own, or"
            " --weights scratch to start from random ones"
        )
    found = [f"encoders.{kind}_model.name={json.dumps(name)}" for kind, name in named.items()]
    # All at once: pretrained weights without a model, or the other way round, would be refused.
    found += [f"encoders.weights={weights}"] if weights is not None else []
    frozen = [part.strip() for part in (freeze or "").split(",") if part.strip()]
    return found + ([f"encoders.frozen={json.dumps(frozen)}"] if frozen else [])


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(train)


def _opening(made: Plan, out: Path) -> list[str]:
    lines = [DEMO_BANNER] if made.built.demo else []
    seeds, rows = ", ".join(map(str, made.seeds)), len(made.rows("train"))
    lines.append(
        f"training {made.method}, preset {made.preset_name}, seed {seeds}, on {rows:,} rows of {made.built.root}"
    )
    if rows < made.preset.training.batch_size:
        lines.append(f"only {rows} rows: each batch is all of them, not {made.preset.training.batch_size}")
    if made.validation() is None:
        lines.append("no validation rows: there will be no best checkpoint, only the last")
    return lines


def _report(made: Plan, out: Path, done: dict[int, Trained], as_json: bool) -> str:
    if as_json:
        found = {
            str(seed): {
                "folder": str(made.folder(out, seed)),
                "seconds": t.seconds,
                "rows_per_second": t.rows_per_second,
                "history": t.history,
            }
            for seed, t in done.items()
        }
        return json.dumps(found, indent=2)
    lines = []
    for seed, trained in done.items():
        folder = made.folder(out, seed)
        lines += [
            f"seed {seed}: loss {trained.history[-1]['loss']:.3f} after {len(trained.history)} epochs,"
            f" {trained.seconds:.0f} s, {trained.rows_per_second:.0f} rows/s",
            f"  models    {folder / 'last'}" + (f", {folder / 'best'}" if (folder / "best").is_dir() else ""),
            f"  journal   {folder / 'train.jsonl'}",
            f"  curves    {folder / 'curves.png'}",
            f"  next      birdmml bench --checkpoint {folder} --data {made.built.root}",
        ]
    return "\n".join(lines)
