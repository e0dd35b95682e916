"""A kill at any request leaves main as it was or with the release, and the next one completes."""

from contextlib import suppress

import pytest
from small_release import Case, is_published, require_completed

from hubq.client.border import Border

CHANGING = ("POST", "PUT", "DELETE")


class Killed(BaseException):
    """What ends a process at once leaves as little behind."""


class Killer:
    """Ends all instead of sending the request of that number, counted from 0, and any later one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.methods: list[str] = []
        self.number: int | None = None
        send = Border.handle_request

        def sent(border: Border, request: object) -> object:
            if self.number is not None and len(self.methods) >= self.number:
                raise Killed
            self.methods.append(request.method)  # type: ignore[attr-defined]
            return send(border, request)  # type: ignore[arg-type]

        monkeypatch.setattr(Border, "handle_request", sent)

    def publishes(self, case: Case, number: int | None) -> list[str]:
        """Publish until the request of a number; return the methods of all that were sent."""
        self.methods, self.number = [], number
        with suppress(Killed):
            case.publish()
        self.number = None
        return self.methods


# huggingface_hub's own: it hands bytes to httpx2 in a way that is going out of use.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_kill_at_any_request_ends_in_one_commit_or_none_and_leaves_nothing_waiting(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer(monkeypatch)
    methods = killer.publishes(case, None)
    # Between two questions nothing changes.
    moments = [n for n, each in enumerate(methods) if {each, methods[n - 1]} & {*CHANGING}]
    whole = []

    for number in moments:
        case.start_again()
        killer.publishes(case, number)
        whole.append(case.api.repo_exists(case.repo) and is_published(case))
        require_completed(case)

    assert len(moments) > 12
    assert whole == sorted(whole), "once it is on main it stays there"
    assert whole.count(True) >= 2, "it is on main before what waited is cleared away"
