"""The Hub that a command talks to: where it is, who asks, and what its refusals mean."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hubq.client.credentials import how_to_log_in, token_for
from hubq.client.error_messages import explain, failures_of_answers, scrub
from hubq.client.retries import RetryPolicy, failures
from hubq.errors import UserError

if TYPE_CHECKING:
    from httpx2 import Response
    from huggingface_hub import HfApi

WRITING_ROLES = frozenset({"admin", "write", "contributor"})  # of a member in an organization


@dataclass(frozen=True)
class Client:
    """A Hub and a token; None means the Hub of HF_ENDPOINT, and the user's own token for it."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    # Data sets whose commits a plan has fixed: org/name or org/name@revision -> commit.
    pinned_data: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The Hub's address: the client's own, or HF_ENDPOINT, or the real one."""
        from huggingface_hub import constants

        return (self.endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def sent_token(self) -> str | None:
        """The token that goes along: the client's own, or the user's for this Hub; None: none."""
        return self.token or token_for(self.url)

    @property
    def known_tokens(self) -> tuple[str | None, str | None]:
        """The client's token and the user's, wherever they may go: what must never be shown."""
        from huggingface_hub import get_token

        return self.token, get_token()

    def api(self) -> "HfApi":
        """Return huggingface_hub's client for this Hub and token."""
        from huggingface_hub import HfApi

        from hubq.client.border import HOME, guard

        guard()
        token = self.sent_token or False
        home = {HOME: self.url}
        return HfApi(endpoint=self.url, token=token, library_name="hubq", headers=home)

    def get(self, path: str, timeout: float) -> "Response":
        """Ask for a path once: huggingface_hub would try for half a minute."""
        from huggingface_hub import get_session

        headers = self._headers()
        return get_session().get(f"{self.url}{path}", headers=headers, timeout=timeout)

    def send(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Send what huggingface_hub has no function for, and return the body of the answer.

        Raises what it would raise for a refusal.
        """
        from huggingface_hub import get_session
        from huggingface_hub.utils._http import hf_raise_for_status

        wanted = {**self._headers(), **headers}
        url = f"{self.url}{path}"
        response = get_session().request(method, url, content=content, headers=wanted)
        hf_raise_for_status(response)
        return bytes(response.content)

    def _headers(self) -> dict[str, str]:
        """Return what goes along with a request that huggingface_hub doesn't make."""
        from hubq.client.border import HOME, guard

        guard()
        headers = {HOME: self.url}
        if token := self.sent_token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    @contextmanager
    def translate_errors(self, doing: str) -> Iterator[None]:
        """Turn the failures of what is done inside into a UserError, without any token in it.

        `doing` names it in the words of the user: "uploading to org/name".
        """
        try:
            yield
        except failures_of_answers() as error:
            explanation = explain(error, self.url)
            if explanation is None:
                raise
            raise UserError(scrub(f"{doing} failed: {explanation}", *self.known_tokens)) from error

    def user(self) -> dict[str, Any]:
        """Return what the Hub knows about the token's owner (its whoami-v2)."""
        if self.sent_token is None:
            raise UserError(
                f"no token for {self.url}. Make one at {self.url}/settings/tokens, then "
                f"{how_to_log_in(self.url)}"
            )
        with self.translate_errors(f"asking {self.url} who you are"):
            answer: dict[str, Any] = self.retries.call(self.api().whoami)
            return answer

    def may_publish(self, repo: str) -> str:
        """Say who may write to a repo, made yet or not; raise UserError if the token may not.

        A token for one repo, as trusted publishers get, is nobody's: only that repo tells.
        """
        org = repo.partition("/")[0]
        try:
            return f"{self.writable(org)} may write to {org}"
        except UserError:
            if not self._writes_to(repo):
                raise
        return f"this token may write to {repo}"

    def _writes_to(self, repo: str) -> bool:
        """Tell whether there is a repo and the token may write to it."""
        if self.sent_token is None:
            return False
        try:
            self.api().auth_check(repo, write=True)
        except failures():
            return False
        return True

    def writable(self, org: str) -> str:
        """Return the name of the user; raise UserError unless the token may write to `org`."""
        user = self.user()
        name = str(user.get("name"))
        token = user.get("auth", {}).get("accessToken", {})
        if token.get("role") == "read":
            raise UserError(
                f"the token of {name} is read-only, so nothing can be published to {org}.\n"
                f"Make one with write permission at {self.url}/settings/tokens"
            )
        if not _is_member(user, org):
            raise UserError(_no_member(user, org, self.url))
        if token.get("role") == "fineGrained" and not _is_granted(token, org):
            raise UserError(
                f"the fine-grained token of {name} does not cover writing to {org}.\n"
                f"Add {org} with write access to its repos at {self.url}/settings/tokens"
            )
        return name


def _is_member(user: dict[str, Any], org: str) -> bool:
    """Tell whether the namespace is the user's own or of an organization that they write to."""
    own = str(user.get("name")).lower() == org.lower()
    return own or any(
        str(each.get("name")).lower() == org.lower()
        and each.get("roleInOrg", "write") in WRITING_ROLES
        for each in user.get("orgs", [])
    )


def _is_granted(token: dict[str, Any], org: str) -> bool:
    """Tell whether a fine-grained token names the namespace with write permission."""
    return any(
        str(grant.get("entity", {}).get("name")).lower() == org.lower()
        and "repo.write" in grant.get("permissions", [])
        for grant in token.get("fineGrained", {}).get("scoped", [])
    )


def _no_member(user: dict[str, Any], org: str, endpoint: str) -> str:
    """Say that the user can't write there, and where they can."""
    places = [str(user.get("name"))] + [
        str(each.get("name"))
        for each in user.get("orgs", [])
        if each.get("roleInOrg", "write") in WRITING_ROLES
    ]
    return (
        f"{user.get('name')} may not write to {org} on {endpoint}.\n"
        f"Ask an admin of {org} for write access, or set publish.org to one of: {', '.join(places)}"
    )
