"""A dataset's files to the Hub, as often as it takes: what is there is not sent again, and the manifest comes last.

Large files are sent first and seen by nobody; one commit then shows all of them at once (several beyond
COMMIT_FILES, the manifest in the last). A killed or refused upload is resumed by doing the same again.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from birdmml.core.files import sha256_bytes
from birdmml.dataset.card import NAMES
from birdmml.dataset.format import MANIFEST
from birdmml.dataset.shards import cut
from birdmml.errors import HubError
from birdmml.hub import UploadFile, client, make, one_line
from birdmml.hub.dataset import DatasetParcel

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi


PAUSES_S = (1.0, 2.0, 4.0, 8.0)
COMMIT_FILES = 5_000
GROUP_FILES, GROUP_BYTES = 200, 2 << 30
SMALL_BYTES = 1 << 20
_STALE = re.compile(r"(?:data/.+\.parquet|report/.+|evalsets/.+)")
_LAST = frozenset({*NAMES, MANIFEST})


@dataclass(frozen=True)
class There:
    """A file of a repository: bytes, and the hash that the hub tells (SHA-256 of large ones, git's of others)."""

    size: int
    sha256: str | None
    blob: str


@dataclass(frozen=True)
class UploadPlan:
    """What an upload would do. `replaced` has the sizes of what is there under the same path and differs."""

    new: tuple[UploadFile, ...]
    replaced: Mapping[str, int]
    same: frozenset[str]
    removed: tuple[str, ...]


def look(parcel: DatasetParcel) -> UploadPlan | None:
    """What is on the hub already, asked without changing it; None where no hub can be asked.

    A repository that is not there, or not to be seen with this token, is an empty one.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    unreached: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, ValueError)
    if constants.HF_HUB_OFFLINE:
        return None
    try:
        api = HfApi(token=get_token() or False)
        # Asked once and not again, unlike the tree: where there is no network that shows at once.
        api.repo_info(parcel.repo, repo_type="dataset", timeout=10)
        return plan(parcel, there(api, parcel.repo))
    except RepositoryNotFoundError:
        return plan(parcel, {})
    except unreached:
        return None


def there(api: HfApi, repo: str) -> dict[str, There]:
    """Every file of a dataset repository. Raises what the hub's client raises."""
    entries = {}
    for entry in api.list_repo_tree(repo, recursive=True, repo_type="dataset"):
        if (size := getattr(entry, "size", None)) is not None:
            lfs = getattr(entry, "lfs", None)
            entries[entry.path] = There(size, lfs.sha256 if lfs else None, str(getattr(entry, "blob_id", "")))
    return entries


def plan(parcel: DatasetParcel, present: Mapping[str, There]) -> UploadPlan:
    """Compare a parcel with what is there. Of what is there and not in it, only a dataset's own parts would go."""
    same = frozenset(f.path for f in parcel.files if f.path in present and _same(parcel, f, present[f.path]))
    new = tuple(f for f in parcel.files if f.path not in same)
    replaced = {f.path: present[f.path].size for f in new if f.path in present}
    paths = {f.path for f in parcel.files}
    removed = tuple(sorted(p for p in present if p not in paths and _STALE.fullmatch(p)))
    return UploadPlan(new, replaced, same, removed)


def upload(parcel: DatasetParcel, private: bool = False, say: Callable[[str], None] = lambda line: None) -> str:
    """Send what is not there; returns the address of the commit, or of the dataset where nothing was left to do.

    What is transient (429, 5xx, a broken connection) is tried again, after looking what has arrived. `tell` gets a
    line for each such pause. Raises HubError; what has arrived by then is not sent again by the next call.
    """
    api, token = client()
    with one_line(parcel, token):
        for pause in (*PAUSES_S, None):
            try:
                make(api, parcel, private)
                return _once(api, parcel)
            except Exception as e:  # what is not transient, or comes the last time, is raised again
                if pause is None or not _transient(e):
                    raise
                say(f"the hub did not take it ({type(e).__name__}); again in {pause:g} s")
                time.sleep(pause)
    raise AssertionError("the last pause is None")


def _once(api: HfApi, parcel: DatasetParcel) -> str:
    from huggingface_hub import CommitOperationDelete

    todo = plan(parcel, there(api, parcel.repo))
    address = f"{api.endpoint}/datasets/{parcel.repo}"
    first = [f for f in todo.new if f.path not in _LAST]
    last = [f for f in todo.new if f.path in _LAST]
    runs = [first[i : i + COMMIT_FILES] for i in range(0, len(first), COMMIT_FILES)] or [[]]
    for number, run in enumerate(runs, 1):
        final = number == len(runs)
        operations: list[Any] = _sent(api, parcel, [*run, *(last if final else [])])
        operations += [CommitOperationDelete(p) for p in todo.removed] if final else []
        if operations:
            part = "" if len(runs) == 1 else f" (part {number} of {len(runs)})"
            done = api.create_commit(
                parcel.repo, operations, commit_message=f"Upload a birdmml dataset{part}", repo_type="dataset"
            )
            address = str(getattr(done, "commit_url", "") or address)
    return address


def _sent(api: HfApi, parcel: DatasetParcel, files: Sequence[UploadFile]) -> list[CommitOperationAdd]:
    """Send the large ones among `files`, group by group; what was sent before is not sent again by the hub's client."""
    operations = []
    for group in cut(files, lambda f: f.size, GROUP_BYTES, GROUP_FILES):
        parts = [_operation(parcel, f) for f in group]
        api.preupload_lfs_files(parcel.repo, parts, repo_type="dataset")
        for f, operation in zip(group, parts, strict=True):
            if operation.upload_info.sha256.hex() != f.sha256:
                raise _changed(f)
        operations += parts
    return operations


def _operation(parcel: DatasetParcel, f: UploadFile) -> CommitOperationAdd:
    """A small file as its bytes, which were the ones that were checked; a large one by its path."""
    from huggingface_hub import CommitOperationAdd

    source = parcel.sources[f.path]
    if f.size > SMALL_BYTES:
        return CommitOperationAdd(path_in_repo=f.path, path_or_fileobj=source)
    data = source.read_bytes()
    if sha256_bytes(data) != f.sha256:
        raise _changed(f)
    return CommitOperationAdd(path_in_repo=f.path, path_or_fileobj=data)


def _changed(f: UploadFile) -> HubError:
    return HubError(f"{f.path} was changed while it was uploaded: nothing of this upload is shown; push again")


def _same(parcel: DatasetParcel, f: UploadFile, present: There) -> bool:
    if present.size != f.size:
        return False
    if present.sha256 is not None:
        return present.sha256 == f.sha256
    # Git's id of a file: SHA-1 over a head and its bytes.
    sha = hashlib.sha1(f"blob {f.size}\0".encode(), usedforsecurity=False)
    with parcel.sources[f.path].open("rb") as source:
        while block := source.read(1 << 20):
            sha.update(block)
    return present.blob == sha.hexdigest()


def _transient(error: BaseException) -> bool:
    """Whether trying again may help: too many requests, a hub in trouble, a connection that broke."""
    seen: BaseException | None = error
    while seen is not None:
        status = getattr(getattr(seen, "response", None), "status_code", None)
        if status is not None:
            return int(status) == 429 or int(status) >= 500
        if type(seen).__name__ in _BROKEN or isinstance(seen, ConnectionError | TimeoutError):
            return True
        seen = seen.__cause__
    return False


# The HTTP client's names for it, whichever client this huggingface_hub is built on.
_BROKEN = frozenset(
    "ConnectError ReadError WriteError CloseError RemoteProtocolError ConnectTimeout ReadTimeout WriteTimeout"
    " PoolTimeout NetworkError".split()
)
