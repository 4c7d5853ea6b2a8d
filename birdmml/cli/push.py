"""`birdmml push` and `push-model`: a dataset, or a model with its results, to the Hub; dry runs without --push."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli._options import argument, flag, option
from birdmml.cli._show import parcel_files, parcel_json, print_either, send, uploaded
from birdmml.core.files import human_bytes
from birdmml.errors import DatasetError, HubError, UsageError

if TYPE_CHECKING:
    from birdmml.core.licenses import Policy
    from birdmml.hub import UploadFile
    from birdmml.hub.dataset import Checked, DatasetParcel
    from birdmml.hub.dataset_checks import PublishFinding
    from birdmml.hub.dataset_upload import UploadPlan
    from birdmml.hub.model import ModelParcel

MAX_FINDINGS = 50


@dataclass(frozen=True, kw_only=True)
class PushCommand:
    """Check a dataset's licences, hashes and files, list what would be uploaded, and upload it with --push.

    \b
    birdmml push ./birds --repo user/birds
    birdmml push ./birds --repo user/birds --filter-licenses --push

    An upload that was stopped goes on with the same command: what has arrived is not sent again.
    """

    folder: Path = argument(..., "A dataset that `birdmml build` wrote.", metavar="DIR")
    repo: str = option(..., "Where on the Hub: user/name.")
    push: bool = option(False, "Upload; without it nothing leaves.", "--push/--dry-run")
    licenses: str = option("default", "Licences to publish: families or SPDX ids; default: all but ND and unknown.")
    filter_licenses: bool = flag("--filter-licenses", "Publish a copy without the rows of other licences.")
    out: Path | None = option(None, "--filter-licenses: where the copy goes (DIR-filtered).")
    private: bool = flag("--private", "A repository that only you see.")
    date: str = option("", "The day of publication, for Croissant: YYYY-MM-DD.")
    allow_demo: bool = flag("--allow-demo", "Publish the demo, labelled as such.")
    as_json: bool = flag("--json", "Print JSON.")

    def _run(self) -> None:
        from birdmml.hub import client, dataset_checks
        from birdmml.hub.dataset import check_names, stage
        from birdmml.hub.dataset_upload import look, upload

        check_names(self.repo, self.date)
        if self.out is not None and not self.filter_licenses:
            raise UsageError("--out is where --filter-licenses puts the copy: add --filter-licenses, or leave it out")
        if self.push:
            client()  # Without a token nothing need be read.
        checked = _ready(self, dataset_checks.parse(self.licenses))
        with tempfile.TemporaryDirectory(prefix="birdmml-push-") as temporary:
            try:
                parcel = stage(checked, self.repo, Path(temporary), self.date)
            except OSError as e:
                raise HubError(f"{e.filename or temporary} cannot be used ({e.strerror or e}): free space") from e
            _refuse(checked.root, parcel.findings)
            plan = look(parcel)
            if not self.as_json:
                typer.echo("\n".join(_lines(parcel, plan)))
            url = upload(parcel, self.private, lambda line: typer.echo(line, err=True)) if self.push else None
        hub: dict[str, Any] | None = None
        if plan is not None:
            hub = {
                "new": [f.path for f in plan.new if f.path not in plan.replaced],
                "replaced": dict(plan.replaced),
                "there_already": sorted(plan.same),
                "removed": list(plan.removed),
            }
        findings = [{("found" if k == "wrong" else k): v for k, v in vars(f).items()} for f in parcel.findings]
        value = parcel_json(parcel, url) | {"hub": hub, "findings": findings}
        print_either(self.as_json, value, uploaded([] if url is None else [url]))


@dataclass(frozen=True, kw_only=True)
class PushModelCommand:
    """Write a model card with checked results, list what would be uploaded, and upload it with --push.

    \b
    birdmml push-model ./model --results results/confu-tiny-0a1b2c3d --repo user/name
    birdmml push-model ./model --results results/confu-tiny-0a1b2c3d --repo user/name --push

    A result is refused unless its figures follow from its items and it is of this very model.
    """

    checkpoint: Path = argument(..., "A folder that `birdmml train` or `bench` wrote.")
    repo: str = option(..., "Where on the Hub: user/name.")
    results: list[Path] = option([], "A result of this model; may be given several times.")
    push: bool = flag("--push", "Upload; without it nothing leaves.")
    out: Path | None = option(None, "Keep the card and the files here, to look at.")
    private: bool = flag("--private", "A repository that only you see.")
    data: Path | None = option(None, "The dataset of the training: its licences go on the card.")
    license_id: str = option("unknown", "The weights' licence, an id of the Hub: cc-by-nc-4.0.", "--license")
    dataset: str = option("", "The training data's name on the Hub, if they are there.")
    benchmark: str = option("", "A benchmark dataset of the Hub: the figures go into .eval_results for it.")
    method: str | None = option(None, "Your own method's file, if the model was trained with one.")
    as_json: bool = flag("--json", "Print JSON.")

    def _run(self) -> None:
        from birdmml.hub.model import check_names, stage
        from birdmml.hub.model_card import ModelAbout

        license_id = self.license_id.strip().lower()
        check_names(self.repo, license_id, self.dataset, self.benchmark)
        about = ModelAbout(self.repo, license_id, self.dataset, benchmark=self.benchmark)

        def staged(folder: Path) -> list[ModelParcel]:
            return [stage(self.checkpoint, self.results, about, folder, self.method, self.data)]

        look_at = str(self.out / "README.md") if self.out else "the card and the files: add --out FOLDER"
        (parcel,), urls = send(staged, self.out, look_at, self.push, self.private, self.as_json)
        value = parcel_json(parcel, urls[0] if urls else None) | {
            "folder": str(self.out) if self.out else None,
            "results": [{"folder": str(s.folder), "not_compared": list(s.unknown)} for s in parcel.results],
        }
        print_either(self.as_json, value, uploaded(urls))


def _ready(options: PushCommand, policy: Policy) -> Checked:
    """The dataset to publish, or its filtered copy; raises DatasetError for what may not go out."""
    from birdmml.hub.dataset import check
    from birdmml.hub.dataset_filtered import LIST, filter_rows

    folder = options.folder
    checked = check(folder, policy)  # Read here again: what `build` once checked may have been edited since.
    _refuse(folder, checked.findings)
    if checked.manifest["demo"] and not options.allow_demo:
        raise DatasetError(
            f"{folder} is the generated demo, not Bird-MML: add --allow-demo to publish it, labelled as a demo"
        )
    if not checked.licences.refused:
        return checked
    if not options.filter_licenses:
        refused = "".join(f"\n  {line}" for line in checked.licences.lines())
        raise DatasetError(
            f"{folder} has media that may not be published with --licenses {policy.text}:{refused}\nask their authors,"
            " or publish a copy without these rows with --filter-licenses"
        )
    out = options.out or folder.resolve().with_name(f"{folder.resolve().name}-filtered")
    copy = check(filter_rows(checked, policy, out), policy)
    _refuse(copy.root, copy.findings)
    removed, rows = copy.manifest["filtered"]["rows_removed"], checked.manifest["counts"]["rows"]
    lines = [f"{out}: a copy without {removed:,} of {rows:,} rows; each in {LIST}"]
    lines += [f"  left out  {line}" for line in checked.licences.lines()]
    # With --json, standard output is for the JSON alone.
    typer.echo("\n".join(lines), err=options.as_json)
    return copy


def _refuse(root: Path, findings: tuple[PublishFinding, ...]) -> None:
    """Tell what stops a dataset from being published, and raise DatasetError if anything does."""
    stops = [f for f in findings if f.stops]
    if not stops:
        return
    for finding in stops[:MAX_FINDINGS]:
        typer.echo(finding.line, err=True)
    if len(stops) > MAX_FINDINGS:
        typer.echo(f"... and {len(stops) - MAX_FINDINGS} more", err=True)
    raise DatasetError(f"{root} is not fit to be published: {len(stops)} things are wrong; nothing was uploaded")


def _lines(parcel: DatasetParcel, plan: UploadPlan | None) -> list[str]:
    """Every file with its size and what it would replace, then what would go and what should be known."""

    def state(f: UploadFile) -> str:
        if plan is None or f.path in plan.same:
            return "" if plan is None else "there already"
        return f"replaces {human_bytes(plan.replaced[f.path])}" if f.path in plan.replaced else "new"

    lines = parcel_files(parcel, state)
    width = max(len(f.path) for f in parcel.files)
    if plan is None:
        lines.append("note      the hub was not asked, or did not answer: what would be replaced is not known")
    else:
        lines += [f"  {path.ljust(width)}              removed from the hub" for path in plan.removed]
        size = human_bytes(sum(f.size for f in plan.new))
        lines.append(f"to send   {len(plan.new)} files, {size}; {len(plan.same)} are there already")
    lines += [f"look at   {f.line}" for f in parcel.findings]
    return lines + [f"note      {note}" for note in parcel.notes]
