"""A built dataset on the Hub: what is checked before it leaves, a copy without some licences, the upload."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from birdmml.core.files import write_text
from birdmml.core.licenses import Policy
from birdmml.dataset import card, croissant, format
from birdmml.dataset.card import CARD, render_card
from birdmml.errors import DatasetError, UsageError
from birdmml.hub import Parcel, UploadFile, check_repo, clear, dataset_checks, listed
from birdmml.hub.dataset_checks import PublishFinding

_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True)
class DatasetParcel(Parcel):
    """A dataset that may go out. `sources` says where the file of each path lies; `findings` are warnings."""

    sources: Mapping[str, Path] = field(default_factory=dict)
    findings: tuple[PublishFinding, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What was found in a folder: the manifest and validation record, its files, licences, and all that is wrong.

    `files` is empty where `findings` tell that something does not belong there.
    """

    root: Path
    manifest: Mapping[str, Any]
    validation: Mapping[str, Any]
    files: tuple[UploadFile, ...]
    licences: dataset_checks.Licences
    findings: tuple[PublishFinding, ...]


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
    manifest = format.read(root)
    shas = dataset_checks.checked(root, manifest)
    paths, wrong = dataset_checks.walk(root, shas)
    licences = dataset_checks.Licences()
    validation: Mapping[str, Any] = {}
    taken: tuple[UploadFile, ...] = ()
    if not wrong:  # Of a folder with strange things in it nothing more is read.
        validation = _validation(root, manifest)
        guard = dataset_checks.Private(root)
        taken, changed = dataset_checks.hashed(root, paths, shas)
        licences, more = dataset_checks.survey(root, manifest, policy, guard)
        wrong += [*changed, *more, *dataset_checks.in_files(root, paths, guard), *dataset_checks.shards(root, manifest)]
    return Checked(root, manifest, validation, taken, licences, tuple(wrong))


def stage(checked: Checked, repo: str, folder: Path, date: str = "") -> DatasetParcel:
    """Put what is written for the Hub into `folder` (Croissant with its addresses, and a missing card or datasheet).

    Raises UsageError where `folder` holds anything else.
    """
    root, manifest, validation = checked.root, checked.manifest, checked.validation
    paths = {f.path for f in checked.files}
    texts = {croissant.FILE: croissant.render(manifest, validation, repo, date)}
    notes = [] if date else ["croissant.json has no datePublished: add --date YYYY-MM-DD"]
    # Both may be the publisher's own words, so only what is missing is made.
    for name, render in ((CARD, render_card), (card.FILE, card.render)):
        if name not in paths:
            texts[name] = render(manifest, validation)
            notes.append(f"{name} was not there: it is made from the manifest")
    clear(folder, texts, "dataset's words")
    for name, text in texts.items():
        write_text(folder / name, text)
    sources = {p: root / p for p in paths} | {name: folder / name for name in texts}
    kept = (f for f in checked.files if f.path not in texts)
    files = tuple(sorted((*kept, *listed(folder, texts)), key=lambda f: f.path))
    text = sources[CARD].read_text(encoding="utf-8", errors="replace")
    sheet = sources[card.FILE].read_text(encoding="utf-8", errors="replace")
    of_card = dataset_checks.card(text, checked.manifest, sorted(sources))
    findings = (*checked.findings, *of_card, *dataset_checks.datasheet(sheet))
    demo = bool(manifest["demo"])
    return DatasetParcel(repo, "dataset", folder, files, demo, tuple(notes), "", sources, findings)


def _validation(root: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The validation record; raises DatasetError where the documents cannot be made from it."""
    path = root / dataset_checks.VALIDATION
    try:
        validation: Mapping[str, Any] = json.loads(path.read_bytes())
        for render in (render_card, croissant.render, card.render):
            render(manifest, validation)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, jinja2.TemplateError) as e:
        raise DatasetError(f"{path} or {format.MANIFEST} lacks or garbles {e}: build the dataset again") from e
    return validation
