"""What a look at an organization's releases finds, as a record that a later look starts from."""

from typing import Literal

from hubq.records.record import Record

Kind = Literal["base", "license", "gate", "rules", "files"]


class Change(Record):
    """One thing that is no longer as it was when a release was published."""

    kind: Kind
    what: str
    way_out: str
    due: bool = True  # False: good to know, nothing is to be done


class Watched(Record):
    """One release, and what changed."""

    repo: str
    commit: str
    base: str | None  # org/name@commit, or what else the plan says of the source; None: not known
    changes: tuple[Change, ...] = ()
    failed: str | None = None  # why it could not be looked at, wholly or in part


class Watch(Record):
    """A look at an organization's releases."""

    hub: str
    org: str
    hubq: str  # the version, whose rules were applied
    releases: tuple[Watched, ...]

    @property
    def changed(self) -> tuple[Watched, ...]:
        """The releases for which something is to be done."""
        return tuple(each for each in self.releases if any(one.due for one in each.changes))

    @property
    def failed(self) -> tuple[Watched, ...]:
        """The releases that could not be looked at."""
        return tuple(each for each in self.releases if each.failed)

    def since(self, before: "Watch") -> "Watch":
        """Leave out the changes that an earlier look has told."""
        known = {each.repo: set(each.changes) for each in before.releases}
        return self.model_copy(
            update={
                "releases": tuple(
                    each.model_copy(
                        update={
                            "changes": tuple(
                                one for one in each.changes if one not in known.get(each.repo, ())
                            )
                        }
                    )
                    for each in self.releases
                )
            }
        )
