"""What the owner of a hub does to it directly in its folder, whether it is being served or not."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from hubq.embedded_hub.accounts import OrgRole, Role
from hubq.embedded_hub.hub import Hub


def mint_token(root: Path, *, user: str, role: Role, expires_in: float | None) -> str:
    """Make a token for a user, good for some seconds or for ever.

    It is shown once: the hub keeps only its sha256. Raises ValueError for an unknown user.
    """
    return Hub.open(root).accounts.mint(user, role, expires_in)


def revoke_token(root: Path, token: str) -> None:
    """Make a token worthless."""
    Hub.open(root).accounts.revoke(token)


def add_user(root: Path, name: str) -> None:
    """Add a user unless there is one of that name. Raises ValueError if it is an organization's."""
    Hub.open(root).accounts.add_user(name)


def add_org(root: Path, name: str, members: Mapping[str, OrgRole] | Iterable[str]) -> None:
    """Add an organization unless it exists, and members: with their roles, or as writers.

    Raises ValueError if the name is a user's.
    """
    roles: dict[str, OrgRole]
    if isinstance(members, Mapping):
        roles = dict(members)
    else:
        roles = {member: "write" for member in members}
    Hub.open(root).accounts.add_org(name, roles)
