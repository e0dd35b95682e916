"""Routes that look at the path before it is decoded, so that %2F stays inside its segment."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from hubq.embedded_hub.accounts import Visitor
from hubq.embedded_hub.refusals import RESERVED, Refusal
from hubq.embedded_hub.repositories import Access
from hubq.embedded_hub.requests import Call, find_visitor, read_body

Whole = Callable[[Call], Response]
Streaming = Callable[[Call], Awaitable[Response]]
Refused = Callable[[Call, Refusal], Response]

KIND_SEGMENTS = ("models", "datasets", "spaces")


class Route(BaseRoute):
    """One method and one pattern of segments, with the function that answers and for whom.

    `{word}` stands for one segment, a last `{*word}` for all that follow, and `{kind}` for
    models, datasets or spaces. A plain function gets the body whole and runs in a thread; an
    async one reads the body itself, as it comes.

    The visitor is admitted to the repo of the path before the function sees the call; `refused`
    may answer those who are not, and what the function itself refuses.
    """

    def __init__(
        self,
        methods: str,
        pattern: str,
        answer: Whole | Streaming,
        access: Access,
        refused: Refused | None = None,
    ) -> None:
        assert ("{name}" in pattern) == (access not in (Access.OPEN, Access.NO_REPO)), pattern
        self.methods = frozenset(methods.split("|"))
        self.pattern = pattern.strip("/").split("/")
        self.answer = answer
        self.access = access
        self.refused = refused

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Compare a request with the pattern."""
        if scope["type"] != "http":
            return Match.NONE, {}
        found = self._parse(scope["raw_path"].decode("latin-1"))
        if found is None:
            return Match.NONE, {}
        match = Match.FULL if scope["method"] in self.methods else Match.PARTIAL
        return match, {"path_params": found}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that matched."""
        request = Request(scope, receive)
        if scope["method"] not in self.methods:
            response = Response(status_code=405, headers={"Allow": ", ".join(self.methods)})
        else:
            response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        hub, path = request.app.state.hub, request.path_params
        public = self.access is Access.OPEN
        who = Visitor() if public else await run_in_threadpool(find_visitor, hub, request)
        call = Call(hub, request, path, who)
        if inspect.iscoroutinefunction(self.answer):
            admitted = await run_in_threadpool(call.admitted, self.access)
            return cast(Response, await self.answer(admitted))
        return await run_in_threadpool(self._answer, replace(call, body=await read_body(request)))

    def _answer(self, call: Call) -> Response:
        whole = cast(Whole, self.answer)
        try:
            return whole(call.admitted(self.access))
        except Refusal as refusal:
            if self.refused is None:
                raise
            return self.refused(call, refusal)

    def _parse(self, raw_path: str) -> dict[str, str] | None:
        segments = raw_path.strip("/").split("/")
        found: dict[str, str] = {}
        for index, part in enumerate(self.pattern):
            if part.startswith("{*"):
                found[part[2:-1]] = "/".join(unquote(segment) for segment in segments[index:])
                return found
            if index >= len(segments) or not self._fits(part, segments[index], found):
                return None
        return found if len(segments) == len(self.pattern) else None

    @staticmethod
    def _fits(part: str, segment: str, found: dict[str, str]) -> bool:
        if not part.startswith("{"):
            return part == segment
        value = unquote(segment)
        name, _, suffix = part[1:].partition("}")
        if not value.endswith(suffix) or value == suffix:
            return False
        if name == "kind" and value not in KIND_SEGMENTS:
            return False
        if name == "namespace" and value.lower() in RESERVED:
            return False
        found[name] = value.removesuffix(suffix)
        return True


def everywhere(
    methods: str,
    rest: str,
    answer: Whole | Streaming,
    access: Access,
    refused: Refused | None = None,
) -> list[Route]:
    """Make the routes of an address under a repo's page, for each kind of repo.

    `rest` is what follows the name: models have no prefix, the others have theirs.
    """
    repo = "{namespace}/{name}" + rest
    return [Route(methods, start + repo, answer, access, refused) for start in ("/{kind}/", "/")]
