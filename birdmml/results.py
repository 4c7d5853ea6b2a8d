"""Results on disk: result.json beside the per-item outcomes that `birdmml.outcomes` writes."""

from __future__ import annotations

import json
from pathlib import Path

from birdmml import settings
from birdmml.errors import ResultError, UsageError
from birdmml.files import write_json
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result

FILE = "result.json"
MAX_JSON_BYTES = 64 * 2**20


def write_result(folder: Path, result: Result) -> Path:
    """Write `folder`/result.json, whole or not at all; returns its path."""
    path = folder / FILE
    write_json(path, settings.to_dict(result))
    return path


def read_result(path: Path) -> Result:
    """Read a result.json, or the one in a folder; raises ResultError if it is none."""
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f"{path} not found: give a folder that `birdmml bench` wrote")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ResultError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB: it is no result.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise ResultError(f"{path} cannot be read as JSON ({e}): score again") from e
    if not isinstance(values, dict) or values.get("schema_version") != RESULT_SCHEMA_VERSION:
        version = values.get("schema_version") if isinstance(values, dict) else None
        raise ResultError(
            f"{path} has schema version {version}, expected {RESULT_SCHEMA_VERSION}: score again"
        )
    try:
        return settings.from_dict(Result, values)
    except (UsageError, TypeError) as e:
        raise ResultError(f"{path} is not a result: {e}") from e


def figure_key(figure: Figure) -> str:
    """ "zero-shot test-split A+V accuracy": how messages name a figure."""
    return f"{figure.suite} {figure.evalset} {figure.task} {figure.metric}"
