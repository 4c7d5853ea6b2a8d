"""A dataset's folder made ready for the Hub: everything is checked, nothing is copied but what is written anew."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from birdmml import manifest as manifests
from birdmml.build import croissant, datasheet
from birdmml.build.card import render_card
from birdmml.build.documents import CARD
from birdmml.errors import DatasetError, UsageError
from birdmml.files import write_text
from birdmml.hub.dataset import lint, private, rows, tree
from birdmml.hub.dataset.finding import Finding
from birdmml.hub.dataset.policy import Policy
from birdmml.hub.parcel import File, Parcel, check_repo, clear, listed

_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True)
class DatasetParcel(Parcel):
    """A dataset that may go out. `sources` says where the file of each path lies; `findings` are warnings."""

    sources: Mapping[str, Path] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What was found in a folder: the manifest and validation record, its files, licences, and all that is wrong.

    `files` is empty where `findings` tell that something does not belong there.
    """

    root: Path
    manifest: Mapping[str, Any]
    validation: Mapping[str, Any]
    files: tuple[File, ...]
    licences: rows.Licences
    findings: tuple[Finding, ...]


def check_names(repo: str, date: str) -> None:
    """Raise UsageError for a repository that the Hub would not take, or a date that is none."""
    check_repo("--repo", repo)
    if date and not _DATE.fullmatch(date):
        raise UsageError(f"--date {date!r} is no day: give YYYY-MM-DD")


def check(root: Path, policy: Policy) -> Checked:
    """Read all of a dataset but its media's content; nothing is written.

    Raises DatasetError where it is no finished dataset, its manifest lies, or a shard cannot be read.
    """
    if root.is_symlink():
        raise DatasetError(f"{root} is a link: name the folder itself")
    manifest = manifests.read(root)
    shas = tree.checked(root, manifest)
    paths, wrong = tree.walk(root, shas)
    licences = rows.Licences()
    validation: Mapping[str, Any] = {}
    taken: tuple[File, ...] = ()
    if not wrong:
        validation = _validation(root, manifest)
        guard = private.Private(root)
        taken, changed = tree.hashed(root, paths, shas)
        licences, more = rows.survey(root, manifest, policy, guard)
        wrong += [*changed, *more, *private.in_files(root, paths, guard), *lint.shards(root, manifest)]
    return Checked(root, manifest, validation, taken, licences, tuple(wrong))


def stage(checked: Checked, repo: str, folder: Path, date: str = "") -> DatasetParcel:
    """Put what is written for the Hub into `folder` (Croissant with its addresses, and a missing card or datasheet).

    Raises UsageError where `folder` holds anything else.
    """
    root, manifest, validation = checked.root, checked.manifest, checked.validation
    paths = {f.path for f in checked.files}
    made = {croissant.FILE: croissant.render(manifest, validation, repo, date)}
    notes = [] if date else ["croissant.json has no datePublished: add --date YYYY-MM-DD"]
    for name, render in ((CARD, render_card), (datasheet.FILE, datasheet.render)):
        if name not in paths:
            made[name] = render(manifest, validation)
            notes.append(f"{name} was not there: it is made from the manifest")
    clear(folder, made, "dataset's words")
    for name, text in made.items():
        write_text(folder / name, text)
    sources = {p: root / p for p in paths} | {name: folder / name for name in made}
    kept = (f for f in checked.files if f.path not in made)
    files = tuple(sorted((*kept, *listed(folder, made)), key=lambda f: f.path))
    findings = (*checked.findings, *_words(checked, sources))
    demo = bool(manifest["demo"])
    return DatasetParcel(repo, "dataset", folder, files, demo, tuple(notes), "", sources, findings)


def _words(checked: Checked, sources: Mapping[str, Path]) -> list[Finding]:
    text = sources[CARD].read_text(encoding="utf-8", errors="replace")
    sheet = sources[datasheet.FILE].read_text(encoding="utf-8", errors="replace")
    return [*lint.card(text, checked.manifest, sorted(sources)), *lint.datasheet(sheet)]


def _validation(root: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The validation record; raises DatasetError where the documents cannot be made from it."""
    path = root / tree.VALIDATION
    try:
        validation: Mapping[str, Any] = json.loads(path.read_bytes())
        for render in (render_card, croissant.render, datasheet.render):
            render(manifest, validation)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        jinja2.TemplateError,
    ) as e:
        raise DatasetError(
            f"{path} or {manifests.MANIFEST} lacks or garbles {e}: build the dataset again"
        ) from e
    return validation
