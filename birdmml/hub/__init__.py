"""What leaves for the Hugging Face Hub: a staged folder that holds exactly the listed files, and its upload."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from birdmml.core.files import sha256_file
from birdmml.errors import HubError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi


# What goes to the hub, for every kind of repository: a folder that holds exactly the listed files.
CARD = "README.md"
TEMPLATES = Path(__file__).with_name("templates")
TAGS = ("birds", "bioacoustics", "biology", "multimodal", "contrastive-learning", "image", "audio", "text")
Kind = Literal["model", "dataset", "space"]
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class UploadFile:
    """One file to upload: its path in the repository, bytes and hash."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Parcel:
    """A staged repository: `files` are all files below `folder`, sorted.

    `replaces` is a pattern of paths: files of the repository that match it and are not in the parcel are removed.
    """

    repo: str
    kind: Kind
    folder: Path
    files: tuple[UploadFile, ...]
    demo: bool
    notes: tuple[str, ...]
    replaces: str = ""


def check_repo(option: str, name: str) -> None:
    """Raise UsageError for a repository that the Hub would not take.

    USER/NAME has at most 96 characters a part, no "--", no "..", no end in ".git".
    """
    shaped = all(_PART.fullmatch(part) for part in name.split("/")) and name.count("/") == 1
    if not shaped or "--" in name or ".." in name or name.endswith(".git"):
        raise UsageError(f"{option} {name!r} is no repository: give USER/NAME, of letters, digits, - _ .")


def clear(folder: Path, wanted: Iterable[str], what: str) -> None:
    """Make `folder`; raise UsageError where it holds anything but the wanted paths of `what`."""
    names = set(wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or (not path.is_dir() and name not in names):
                raise UsageError(
                    f"--out {folder} holds {name}, which is not part of this {what}: choose an empty folder"
                )
    except OSError as e:
        raise UsageError(f"--out {folder} cannot be used ({e.strerror or e}): choose another folder") from e


def copied(sources: Mapping[str, Path], folder: Path) -> None:
    """Copy each file to its path below `folder`."""
    for path, source in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        # A link that came since the check is copied as a link, which has no hash of its own.
        shutil.copyfile(source, folder / path, follow_symlinks=False)


def listed(folder: Path, paths: Iterable[str]) -> tuple[UploadFile, ...]:
    """The staged files with their sizes and hashes, sorted by path."""
    return tuple(UploadFile(path, (folder / path).stat().st_size, sha256_file(folder / path)) for path in sorted(paths))


# The upload: a repository is made if there is none, and the staged files go into it.
LOGIN = "run `hf auth login`, or set HF_TOKEN to a token that may write"
MAX_SHOWN = 300
MESSAGES = {"model": "a birdmml model", "dataset": "submissions to birdmml", "space": "a birdmml board"}


def push(*parcels: Parcel, private: bool = False) -> list[str]:
    """Upload each parcel's files to its repository; returns the addresses that the hub answers with.

    Every repository is made, and found private where it must be, before the first file leaves. The token is that of
    the environment or of `hf auth login`; HF_ENDPOINT names another hub. Raises HubError.
    """
    api, token = client()
    for parcel in parcels:
        with one_line(parcel, token):
            make(api, parcel, private)
    done = []
    for parcel in parcels:
        with one_line(parcel, token):
            done.append(_send(api, parcel))
    return done


def client() -> tuple[HfApi, str]:
    """The hub's client and the token that it sends. Raises HubError where there is none, or no hub is wanted."""
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set, so nothing was uploaded: unset it and push again")
    token = get_token()
    if not token:
        raise HubError(f"nothing was uploaded: no token of the hub was found; {LOGIN}")
    return HfApi(token=token), token


def make(api: HfApi, parcel: Parcel, private: bool) -> None:
    """Make the repository unless it is there. Raises HubError where it is public and must not be."""
    sdk = "static" if parcel.kind == "space" else None
    api.create_repo(
        parcel.repo, repo_type=parcel.kind, private=private or None, exist_ok=True, space_sdk=sdk
    )  # fmt: skip
    # An older repository is taken as it is, so what it is can only be asked afterwards.
    if private and not api.repo_info(parcel.repo, repo_type=parcel.kind).private:
        raise HubError(f"{parcel.repo} exists and is public, so nothing was uploaded: leave out --private")


def _send(api: HfApi, parcel: Parcel) -> str:
    there = {p.relative_to(parcel.folder).as_posix() for p in parcel.folder.rglob("*") if not p.is_dir()}
    if odd := there ^ {f.path for f in parcel.files}:
        raise HubError(f"{parcel.folder} was changed, nothing of it was uploaded ({min(odd)}): push again")
    done = api.upload_folder(
        repo_id=parcel.repo,
        folder_path=parcel.folder,
        repo_type=parcel.kind,
        delete_patterns=parcel.replaces or None,
        commit_message=f"Upload {MESSAGES[parcel.kind]}",
    )
    return str(getattr(done, "commit_url", "") or done)


@contextmanager
def one_line(parcel: Parcel, token: str) -> Iterator[None]:
    """What the hub's client raises, as a HubError on one line and without the token."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are OSError and the error of whichever HTTP client this huggingface_hub is built on; the uploader
    # of large files raises RuntimeError, a name that the hub does not take ValueError.
    expected: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, RuntimeError, ValueError)
    try:
        yield
    except expected as e:
        lines = [line.strip() for line in str(e).replace(token, "***").splitlines() if line.strip()]
        status = getattr(getattr(e, "response", None), "status_code", None)
        step = LOGIN if status in (401, 403) else "check the connection and the repository's name, then push again"
        what = " ".join(lines)[:MAX_SHOWN] or type(e).__name__
        raise HubError(f"{parcel.repo}: the upload failed ({what}); {step}") from e
