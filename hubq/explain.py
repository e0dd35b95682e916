"""What the Hub's refusals mean: the one place that turns its errors into words and ways out."""

import errno
import re

from hubq.patience import asked_to_wait, chain, status_of

SECRETS = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9_-]{20,}")
NO_SPACE = ("no space left", "os error 28", "disk quota")


def scrub(text: str, token: str | None = None) -> str:
    """Blot out whatever looks like a token of the Hub, and the given one whatever it looks like."""
    return SECRETS.sub("hf_***", text.replace(token, "hf_***") if token else text)


def explain(error: BaseException, endpoint: str) -> str | None:
    """Say what went wrong and the way out; None when the Hub and its network are not to blame."""
    for link in chain(error):
        for about in (_about_a_repo, _about_a_status, _about_this_machine):
            if text := about(link, endpoint):
                return text
    return None


def _about_a_repo(error: BaseException, endpoint: str) -> str | None:
    """Explain the refusals that the Hub has own names for."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            page = f"{endpoint}/{error.repo_id or ''}".rstrip("/")
            return (
                f"{error.repo_id or 'the repo'} is gated and this account has no access.\n"
                f"Ask for it at {page}, then log in as that account: hf auth login, or set HF_TOKEN"
            )
        case errors.DisabledRepoError():
            return f"{endpoint} has disabled this repo; its owner or {endpoint} can say why"
        case errors.RevisionNotFoundError():
            return f"{error.repo_id or 'the repo'} has no such revision; leave it out for main"
        case errors.RemoteEntryNotFoundError():
            return f"the repo does not hold that file ({error.response.url})"
        case errors.RepositoryNotFoundError():
            return (
                f"{endpoint} shows no repo {error.repo_id or 'of that name'} to this account.\n"
                "Check the spelling; if it is private, log in as an account with access: "
                "hf auth login, or set HF_TOKEN"
            )
        case errors.LocalTokenNotFoundError():
            return (
                f"no token for {endpoint}. Make one at {endpoint}/settings/tokens, then run "
                "hf auth login or set HF_TOKEN"
            )
        case errors.HFValidationError():
            return f"that is no name of a repo: {error}"
    return None


def _about_a_status(error: BaseException, endpoint: str) -> str | None:
    """Explain an answer by its HTTP status, with what the server said."""
    status = status_of(error)
    if status is None:
        return None
    said = _said(error)
    if status >= 500:
        return (
            f"{endpoint} has trouble (status {status}{said}).\n"
            "Try again later; what is done stays done"
        )
    if status == 429:
        wait = asked_to_wait(error)
        when = f"in {wait:.0f} seconds" if wait else "later"
        return f"{endpoint} answers that these are too many requests{said}.\nTry again {when}"
    return {
        401: f"{endpoint} does not accept the token{said}.\n"
        f"Make a new one at {endpoint}/settings/tokens, then run hf auth login or set HF_TOKEN",
        403: f"{endpoint} does not allow this to the token{said}.\n"
        "Use a token with write permission, of a user with write access to the organization",
        409: f"another commit to this repo is going on{said}.\nTry again when it has ended",
        412: f"the repo changed in the meantime{said}.\nRun again to look at its new state",
    }.get(status, f"{endpoint} refused with status {status}{said}")


def _said(error: BaseException) -> str:
    """Return the server's own words in a clause, or nothing."""
    words = getattr(error, "server_message", None)
    return f": {words.strip().splitlines()[0].rstrip('.')}" if words and words.strip() else ""


def _about_this_machine(error: BaseException, endpoint: str) -> str | None:
    """Explain a network that isn't there and a disk that is full."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, so {endpoint} is not asked; unset it to go on"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or any(words in str(error).lower() for words in NO_SPACE):
        return "no space left on the disk. Make room (hf cache prune helps), then run again"
    if isinstance(error, httpx2.TransportError | ConnectionError):
        return (
            f"{endpoint} can't be reached ({type(error).__name__}).\n"
            "Check the network, the proxy and HF_ENDPOINT; what is done stays done"
        )
    return None
