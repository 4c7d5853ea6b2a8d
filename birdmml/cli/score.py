"""`birdmml score`: embeddings of the user's own, benchmarked without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from birdmml.cli._options import flag, option
from birdmml.cli._show import needs_data, writable, writing
from birdmml.cli.bench import show
from birdmml.errors import UsageError
from birdmml.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class ScoreCommand:
    """Score embeddings made elsewhere: cosine of vectors brought to length 1; results as `birdmml bench` writes them.

    A fused query is the vector image+audio where the file has one, else the sum of the two cosines. A null is a
    vector that is not there.

    \b
    birdmml score --embeddings test.parquet --data ./data
    birdmml score --embeddings test=a.parquet --prompts classes.parquet --suite retrieval,zero-shot
    birdmml score --embeddings train=a.parquet,test=b.parquet --suite few-shot --data ./data
    """

    embeddings: list[str] = option(
        ...,
        "A Parquet file: id, and vectors named image, audio, text, image+audio. SPLIT=FILE for more.",
        show_default=False,
    )
    suite: str = option("retrieval", "What to measure, separated by commas.")
    prompts: Path | None = option(None, "Class prompts, a Parquet file: class_name, and the vector text.")
    data: Path | None = option(None, "The dataset embedded; its ids must all be there, and no others.")
    name: str = option("", "What the result calls it.", show_default="the first file's name")
    out: Path = option(Path("results"), "Where results go, a folder each.")
    assign: list[str] = option([], "A suite's setting: zero-shot.split=validation.", "--set")
    every_metric: bool = flag("--all", "Print every metric.")
    as_json: bool = flag("--json", "Print the result as JSON.")

    def _run(self) -> None:
        paths = _paths(self.embeddings)  # Words first, files after: what is typed wrong is said at once.
        if self.data is not None:
            needs_data(self.data)
        from birdmml.bench import own_vectors
        from birdmml.bench.score import passes_of

        suites, rest = passes_of(self.suite.split(","), self.assign)
        if rest:
            raise UsageError(
                f"--set {rest[0]}: nothing is trained here, give a suite's setting, as zero-shot.split=test"
            )
        vectors = own_vectors.read_vectors(paths, self.prompts, self.data, self.name)
        writable(self.out)
        with writing(self.out):
            result, folder = own_vectors.run(vectors, suites, self.out)
        if not self.as_json:
            typer.echo(f"{vectors.name}: {own_vectors.SCORE}")
        show(result, folder, self.every_metric, self.as_json)


def _paths(words: list[str]) -> dict[str, Path]:
    """split -> file, from "test=a.parquet", several with commas or options; a bare file is the test split."""
    paths: dict[str, Path] = {}
    for word in (w.strip() for text in words for w in text.split(",") if w.strip()):
        split, sign, path = word.partition("=")
        if not sign or split not in SPLITS:
            split, path = "test", word
        if split in paths:
            raise UsageError(f"--embeddings {word}: {split} has {paths[split]} already: give SPLIT=FILE for more")
        paths[split] = Path(path)
    if not paths:
        raise UsageError("--embeddings is empty: give a Parquet file")
    return paths
