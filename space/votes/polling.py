"""Where the votes of this Space are kept: in a file, and in the repo that a setting names."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

from hubq.cache import cache_folder
from hubq.client import Client
from hubq.errors import UserError
from votes.ballots import Ballots
from votes.storage import VoteRepo
from votes.votes import VoteBook

FORGETFUL = (
    "Votes are counted until this Space restarts: the variable HUBQ_SPACE_VOTES names no repo."
)


class Votes(NamedTuple):
    """Open comparisons, and the votes on those that are over."""

    ballots: Ballots
    book: VoteBook
    note: str = ""  # what visitors are told of where votes are kept


def polling(environment: Mapping[str, str], client: Client) -> Votes:
    """Open the votes; where the named repo can't be had, visitors are told so."""
    folder = cache_folder() / "space"
    repo = environment.get("HUBQ_SPACE_VOTES", "").strip()
    if not repo:
        note = FORGETFUL if "SPACE_ID" in environment else ""
        return Votes(Ballots(), VoteBook(folder / "votes.sqlite"), note)
    name = re.sub(r"[^\w.-]+", "-", repo)
    book = folder / f"votes-{name}.sqlite"
    try:
        archive = VoteRepo(repo, Path(mkdtemp(prefix="hubq-votes-")), client)
        return Votes(Ballots(), VoteBook(book, archive))
    except UserError as error:
        note = f"Votes are counted until this Space restarts, since {repo} can't be used: {error}"
        return Votes(Ballots(), VoteBook(book), note)
