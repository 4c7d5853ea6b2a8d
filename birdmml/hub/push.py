"""The upload: a repository is made if there is none, and the staged files go into it."""

from __future__ import annotations

from birdmml.errors import HubError
from birdmml.hub.stage import Parcel

LOGIN = "run `hf auth login`, or set HF_TOKEN to a token that may write"
MAX_SHOWN = 300


def push(parcel: Parcel, private: bool = False) -> str:
    """Upload the files of `parcel` to its model repository; returns the address that the hub answers with.

    The token is that of the environment or of `hf auth login`; HF_ENDPOINT names another hub. Raises HubError.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set, so nothing was uploaded: unset it and push again")
    token = get_token()
    if not token:
        raise HubError(f"nothing was uploaded: no token of the hub was found; {LOGIN}")
    # Its bases are OSError and the error of whichever HTTP client this huggingface_hub is built on; the uploader
    # of large files raises RuntimeError, a name that the hub does not take ValueError.
    expected: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, RuntimeError, ValueError)
    api = HfApi(token=token)
    try:
        api.create_repo(parcel.repo, repo_type="model", private=private or None, exist_ok=True)
        if private and not api.repo_info(parcel.repo, repo_type="model").private:
            raise HubError(
                f"{parcel.repo} exists and is public, so nothing was uploaded: leave out --private"
            )
        done = api.upload_folder(
            repo_id=parcel.repo,
            folder_path=parcel.folder,
            repo_type="model",
            allow_patterns=[f.path for f in parcel.files],
            commit_message="Upload a birdmml model",
        )
    except expected as e:
        raise HubError(_told(parcel.repo, e, token)) from e
    return str(getattr(done, "commit_url", "") or done)


def _told(repo: str, error: BaseException, token: str) -> str:
    """One line, without the token."""
    lines = [line.strip() for line in str(error).replace(token, "***").splitlines() if line.strip()]
    status = getattr(getattr(error, "response", None), "status_code", None)
    step = (
        LOGIN if status in (401, 403) else "check the connection and the repository's name, then push again"
    )
    what = " ".join(lines)[:MAX_SHOWN] or type(error).__name__
    return f"{repo}: the upload failed ({what}); {step}"
