"""Who may do what with a repo: the one place where a visitor is let in or refused."""

from enum import Enum

from hubq.embedded_hub.accounts import Visitor
from hubq.embedded_hub.refusals import forbidden, gated, repository_not_found, sign_in_first
from hubq.embedded_hub.repositories import Repositories, Repository, may_read


class Access(Enum):
    """What a route gives or takes, and so whom it lets in. Each route names one."""

    OPEN = "no token counts: the request carries a ticket, or what it asks is everybody's"
    NO_REPO = "the address names no repo; one that the body or a list names is admitted apart"
    KNOW = "names, sizes, the card, what people said: of a gated repo everybody may have it"
    READ = "the content of files, in whatever form, or a way to it"
    WRITE = "changing the repo"


def admit(
    repositories: Repositories, repo: Repository | None, visitor: Visitor, access: Access
) -> Repository:
    """Return the repo for a visitor who has that access to it, or refuse.

    A repo that the visitor may not know of is answered for as one that doesn't exist.
    """
    if repo is None or not may_read(repo, visitor):
        raise repository_not_found(anonymous=visitor.anonymous)
    if access is Access.READ and not repositories.admits(repo, visitor):
        raise gated(repo.full_name, anonymous=visitor.anonymous)
    if access is Access.WRITE:
        check_write(visitor, repo.namespace, repo.address)
    return repo


def check_write(visitor: Visitor, namespace: str, what: str) -> None:
    """Refuse a visitor who may not write to a namespace."""
    if visitor.anonymous:
        raise sign_in_first()
    if not visitor.writes_to(namespace):
        raise forbidden(f"You don't have the rights to write to {what}")
