"""What the Hub's refusals mean: the one place that turns its errors into words and ways out."""

import errno
import re
from traceback import walk_tb

from hubq.client.credentials import how_to_log_in
from hubq.client.retries import asked_to_wait, chain, failures, status_of
from hubq.errors import UserError

# What libraries raise where an answer is not what they expect.
UNREAD = (LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError)
READERS = ("huggingface_hub", "httpx2")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
LONGEST_WORDS = 300  # characters of what a server says
SECRETS = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9_-]{20,}")
FULL_ACCOUNT = (403, 413)
NO_SPACE = ("no space left", "os error 28", "disk quota")


def failures_of_answers() -> tuple[type[Exception], ...]:
    """Name the exceptions that can be explained, if a library raised them."""
    from hubq.client.answers import ImplausibleError

    return (ImplausibleError, *failures(), *UNREAD)


def scrub(text: str, *tokens: str | None) -> str:
    """Blot out whatever looks like a token of the Hub, and those given whatever they look like."""
    for token in filter(None, tokens):
        text = text.replace(token, "hf_***")
    return SECRETS.sub("hf_***", text)


def explain(error: BaseException, endpoint: str) -> str | None:
    """Say what went wrong and the way out; None when the Hub and its network are not to blame."""
    for link in chain(error):
        if isinstance(link, UserError):  # raised below a library that wrapped it
            return str(link)
        for about in (_about_a_repo, _about_a_status, _about_this_machine):
            if text := about(link, endpoint):
                return text
    return _about_an_answer(error, endpoint)


def _about_a_repo(error: BaseException, endpoint: str) -> str | None:
    """Explain the refusals that the Hub has own names for."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            page = f"{endpoint}/{error.repo_id or ''}".rstrip("/")
            return (
                f"{error.repo_id or 'the repo'} is gated and this account has no access.\n"
                f"Ask for it at {page}, then log in as that account: {how_to_log_in(endpoint)}"
            )
        case errors.DisabledRepoError():
            return f"{endpoint} has disabled this repo; its owner or {endpoint} can say why"
        case errors.RevisionNotFoundError():
            return (
                f"{error.repo_id or 'the repo'} doesn't have this revision; leave it out for main"
            )
        case errors.RemoteEntryNotFoundError():
            return f"the repo does not hold that file ({error.response.url})"
        case errors.RepositoryNotFoundError():
            return (
                f"{endpoint} shows no repo {error.repo_id or 'of that name'} to this account.\n"
                "Check the spelling; if it is private, log in as an account with access: "
                f"{how_to_log_in(endpoint)}"
            )
        case errors.HFValidationError():
            return f"that is not a repo name: {error}"
    return None


def _about_a_status(error: BaseException, endpoint: str) -> str | None:
    """Explain an answer by its HTTP status, with what the server said."""
    status = status_of(error)
    if status is None:
        return None
    said = _said(error)
    if status >= 500:
        return (
            f"{endpoint} has a problem (status {status}{said}).\n"
            "Try again later; finished work is kept"
        )
    if status == 429:
        wait = asked_to_wait(error)
        when = f"in {wait:.0f} seconds" if wait else "later"
        return f"{endpoint} reports too many requests{said}.\nTry again {when}"
    if status in FULL_ACCOUNT and "storage limit" in said.lower():
        return (
            f"the account's storage at {endpoint} is full{said}.\n"
            "Delete what isn't needed (closed pull requests' references too), or get more there; "
            "HUBQ_STORAGE, set to what it may store, lets hubq see that beforehand"
        )
    return {
        401: f"{endpoint} does not accept the token{said}.\n"
        f"Make a new one at {endpoint}/settings/tokens, then {how_to_log_in(endpoint)}",
        403: f"{endpoint} does not allow this with this token{said}.\n"
        "Use a token with write permission from a user with write access to the organization",
        409: f"another commit to this repo is in progress{said}.\nTry again when it has finished",
        412: f"the repo changed in the meantime{said}.\nRun again to use its new state",
    }.get(status, f"{endpoint} refused with status {status}{said}")


def _said(error: BaseException) -> str:
    """Return the server's own words in a clause, or nothing; no control codes for terminals."""
    words = str(getattr(error, "server_message", None) or "").strip().partition("\n")[0]
    plain = UNPRINTABLE.sub(" ", words)[:LONGEST_WORDS].strip().rstrip(".")
    return f": {plain}" if plain else ""


def _about_this_machine(error: BaseException, endpoint: str) -> str | None:
    """Explain a network that isn't there and a disk that is full."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, so {endpoint} is not contacted; unset it to continue"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or any(words in str(error).lower() for words in NO_SPACE):
        return "no space left on the disk. Make room (hf cache prune helps), then run again"
    if isinstance(error, httpx2.TransportError | ConnectionError):
        return (
            f"{endpoint} can't be reached ({type(error).__name__}).\n"
            "Check the network, the proxy and HF_ENDPOINT; finished work is kept"
        )
    return None


def _about_an_answer(error: BaseException, endpoint: str) -> str | None:
    """Explain an answer that no library could read; None where none was being read."""
    import httpx2

    if isinstance(error, httpx2.TooManyRedirects):
        what = "redirects endlessly"
    elif isinstance(error, OSError) and error.errno is not None:
        return None  # of this machine's disk
    elif _was_reading(error):
        said = UNPRINTABLE.sub(" ", str(error))[:LONGEST_WORDS]
        what = f"answers in a way that huggingface_hub can't read ({type(error).__name__}: {said})"
    else:
        return None
    return (
        f"{endpoint} {what}.\n"
        "If this is the right Hub, check for a proxy or a network login page in between"
    )


def _was_reading(error: BaseException) -> bool:
    """Tell whether an exception comes from a library that was called, not from a caller of ours."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    ours = max((n for n, each in enumerate(modules) if each.startswith("hubq.")), default=-1)
    return any(each.partition(".")[0] in READERS for each in modules[ours + 1 :])
