"""`birdmml push`: a built dataset to the Hub; a dry run unless told otherwise."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdmml.errors import DatasetError, HubError

if TYPE_CHECKING:
    from birdmml.hub.dataset.finding import Finding
    from birdmml.hub.dataset.policy import Policy
    from birdmml.hub.dataset.stage import Checked, DatasetParcel
    from birdmml.hub.dataset.upload import Plan

MAX_FINDINGS = 50


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset that `birdmml build` wrote.")],
    repo: Annotated[str, typer.Option(help="Where on the Hub: user/name.")],
    push: Annotated[
        bool, typer.Option("--push/--dry-run", help="Upload; without it nothing leaves.")
    ] = False,
    licenses: Annotated[
        str, typer.Option(help="Licences to publish: families or SPDX ids; default: all but ND and unknown.")
    ] = "default",
    filter_licenses: Annotated[
        bool, typer.Option("--filter-licenses", help="Publish a copy without the rows of other licences.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="--filter-licenses: where the copy goes (DIR-filtered).")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that only you see.")] = False,
    date: Annotated[str, typer.Option(help="The day of publication, for Croissant: YYYY-MM-DD.")] = "",
    allow_demo: Annotated[
        bool, typer.Option("--allow-demo", help="Publish the demo, labelled as such.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a dataset's licences, hashes and files, list what would be uploaded, and upload it with --push.

    \b
    birdmml push ./birds --repo user/birds
    birdmml push ./birds --repo user/birds --filter-licenses --push

    An upload that was stopped goes on with the same command: what has arrived is not sent again.
    """
    from birdmml.errors import UsageError
    from birdmml.hub.dataset import policy
    from birdmml.hub.dataset.stage import check_names, stage
    from birdmml.hub.dataset.upload import look, upload
    from birdmml.hub.push import client

    check_names(repo, date)
    if out is not None and not filter_licenses:
        raise UsageError(
            "--out is where --filter-licenses puts the copy: add --filter-licenses, or leave it out"
        )
    if push:
        client()  # Without a token nothing need be read.
    checked = _ready(folder, policy.parse(licenses), filter_licenses, out, allow_demo, as_json)
    with tempfile.TemporaryDirectory(prefix="birdmml-push-") as temporary:
        try:
            parcel = stage(checked, repo, Path(temporary), date)
        except OSError as e:
            raise HubError(f"{e.filename or temporary} cannot be used ({e.strerror or e}): free space") from e
        _refuse(checked.root, parcel.findings, as_json)
        plan = look(parcel)
        if not as_json:
            typer.echo("\n".join(_lines(parcel, plan)))
        url = upload(parcel, private, lambda line: typer.echo(line, err=True)) if push else None
    if as_json:
        typer.echo(json.dumps(_as_json(parcel, plan, url), indent=2, ensure_ascii=False))
    else:
        typer.echo("nothing was uploaded: add --push" if url is None else f"uploaded  {url}")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(push)


def _ready(
    folder: Path, policy: Policy, filtering: bool, out: Path | None, allow_demo: bool, as_json: bool
) -> Checked:
    """The dataset to publish, or its filtered copy; raises DatasetError for what may not go out."""
    from birdmml.hub.dataset.stage import check

    checked = check(folder, policy)
    _refuse(folder, checked.findings, as_json)
    if checked.manifest["demo"] and not allow_demo:
        raise DatasetError(
            f"{folder} is the generated demo, not Bird-MML: add --allow-demo to publish it, labelled as a demo"
        )
    if not checked.licences.refused:
        return checked
    if not filtering:
        lines = "".join(f"\n  {line}" for line in checked.licences.lines())
        raise DatasetError(
            f"{folder} has media that may not be published with --licenses {policy.text}:{lines}\nask their authors,"
            " or publish a copy without these rows with --filter-licenses"
        )
    return _filtered(
        checked, policy, out or folder.resolve().with_name(f"{folder.resolve().name}-filtered"), as_json
    )


def _filtered(checked: Checked, policy: Policy, out: Path, as_json: bool) -> Checked:
    from birdmml.hub.dataset.filtered import LIST, filter_rows
    from birdmml.hub.dataset.stage import check

    made = check(filter_rows(checked, policy, out), policy)
    _refuse(made.root, made.findings, as_json)
    told = made.manifest["filtered"]
    typer.echo(
        f"{out}: a copy without {told['rows_removed']:,} of {checked.manifest['counts']['rows']:,} rows;"
        f" each in {LIST}",
        err=as_json,
    )
    for line in checked.licences.lines():
        typer.echo(f"  left out  {line}", err=as_json)
    return made


def _refuse(root: Path, findings: tuple[Finding, ...], as_json: bool) -> None:
    """Tell what stops a dataset from being published, and raise DatasetError if anything does."""
    stops = [f for f in findings if f.stops]
    if not stops:
        return
    for finding in stops[:MAX_FINDINGS]:
        typer.echo(finding.line, err=True)
    if len(stops) > MAX_FINDINGS:
        typer.echo(f"... and {len(stops) - MAX_FINDINGS} more", err=True)
    raise DatasetError(
        f"{root} is not fit to be published: {len(stops)} things are wrong; nothing was uploaded"
    )


def _lines(parcel: DatasetParcel, plan: Plan | None) -> list[str]:
    """Every file with its size and what it would replace, then what would go and what should be known."""
    from birdmml.cli._show import DEMO_BANNER
    from birdmml.files import human_bytes

    lines = [DEMO_BANNER] if parcel.demo else []
    lines.append(
        f"dataset {parcel.repo}: {len(parcel.files)} files, {human_bytes(sum(f.size for f in parcel.files))}"
    )
    width = max(len(f.path) for f in parcel.files)
    for f in parcel.files:
        lines.append(f"  {f.path.ljust(width)}  {human_bytes(f.size):>10}  {_state(f.path, plan)}")
    if plan is None:
        lines.append(
            "note      the hub was not asked, or did not answer: what would be replaced is not known"
        )
    else:
        lines += [f"  {path.ljust(width)}              removed from the hub" for path in plan.removed]
        size = human_bytes(sum(f.size for f in plan.new))
        lines.append(f"to send   {len(plan.new)} files, {size}; {len(plan.same)} are there already")
    lines += [f"look at   {f.line}" for f in parcel.findings]
    return lines + [f"note      {note}" for note in parcel.notes]


def _state(path: str, plan: Plan | None) -> str:
    from birdmml.files import human_bytes

    if plan is None:
        return ""
    if path in plan.same:
        return "there already"
    return f"replaces {human_bytes(plan.replaced[path])}" if path in plan.replaced else "new"


def _as_json(parcel: DatasetParcel, plan: Plan | None, url: str | None) -> dict[str, Any]:
    from birdmml.cli._parcel import parcel_json

    asked = None
    if plan is not None:
        asked = {
            "new": [f.path for f in plan.new if f.path not in plan.replaced],
            "replaced": dict(plan.replaced),
            "there_already": sorted(plan.same),
            "removed": list(plan.removed),
        }
    findings = [vars(f) for f in parcel.findings]
    return parcel_json(parcel, url) | {"hub": asked, "findings": findings}
