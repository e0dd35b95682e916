"""Copying a whole repo under another name, history and all."""

import dataclasses
import shutil

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.api.repos import check_namespace, created, private_or_none, split_name, taken
from hubq.embedded_hub.hub import place_repo
from hubq.embedded_hub.repositories import Access, Belongings, draft
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import Route


def duplicate(call: Call) -> Response:
    """Copy a repo that the visitor may download, as it is now."""
    source = call.repo()
    namespace, name = split_name(call.text("repository"))
    check_namespace(call, source.kind, namespace)
    private = private_or_none(call.json())
    copy = dataclasses.replace(
        draft(source.kind, namespace, name, private=source.private if private is None else private),
        sdk=source.sdk,
        hardware=source.hardware,
        gate=source.gate,  # else a copy would be a way around it
    )
    given = Belongings(large_files=tuple(call.hub.repositories.holdings(source)))
    try:
        with place_repo(call.hub, copy, given) as place, call.hub.locks.hold(source.id):
            shutil.copytree(call.hub.histories.path(source.id), place)
    except FileExistsError as error:
        raise taken(call, copy, "You already created this {kind} repo") from error
    return JSONResponse(created(call, copy))


ROUTES = (Route("POST", "/api/{kind}/{namespace}/{name}/duplicate", duplicate, Access.READ),)
