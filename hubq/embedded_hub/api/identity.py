"""Who am I, and what may I do?"""

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.refusals import Refusal, forbidden
from hubq.embedded_hub.repositories import Access
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import Route


def instance(call: Call) -> Response:
    """Say which server process this is, so that a stale note about it can be told."""
    return JSONResponse({"instance": call.hub.instance})


def whoami(call: Call) -> Response:
    """Describe the user of the token."""
    name = call.user()
    if call.visitor.only is not None:  # as those of trusted publishers, which are nobody's
        raise forbidden("This token is for one repo, not for a user")
    orgs = [
        {
            "type": "org",
            "id": org,
            "name": org,
            "fullname": org,
            "roleInOrg": role,
            "isEnterprise": False,
        }
        for org, role in call.visitor.orgs.items()
    ]
    return JSONResponse(
        {
            "type": "user",
            "id": name,
            "name": name,
            "fullname": name,
            "isPro": False,
            "orgs": orgs,
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": "hubq", "role": call.visitor.role},
            },
        }
    )


def auth_check(call: Call) -> Response:
    """Answer 200: the route has let in only those who may download, or write."""
    return JSONResponse({})


def user_overview(call: Call) -> Response:
    """Describe a user."""
    name = call.path["user"]
    if call.hub.accounts.kind_of(name) != "user":
        raise Refusal(404, "This user does not exist")
    return JSONResponse({"user": name, "fullname": name, "avatarUrl": "", "orgs": []})


def org_overview(call: Call) -> Response:
    """Describe an organization."""
    name = call.path["org"]
    if call.hub.accounts.kind_of(name) != "org":
        raise Refusal(404, "This organization does not exist")
    return JSONResponse({"name": name, "fullname": name, "avatarUrl": ""})


ROUTES = (
    Route("GET", "/api/instance", instance, Access.OPEN),
    Route("GET", "/api/whoami-v2", whoami, Access.NO_REPO),
    Route("GET", "/api/{kind}/{namespace}/{name}/auth-check", auth_check, Access.READ),
    Route("GET", "/api/{kind}/{namespace}/{name}/auth-check/write", auth_check, Access.WRITE),
    Route("GET", "/api/users/{user}/overview", user_overview, Access.NO_REPO),
    Route("GET", "/api/organizations/{org}/overview", org_overview, Access.NO_REPO),
)
