"""Checking a card's metadata before it is committed."""

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.card_rules import validate
from hubq.embedded_hub.repositories import Access
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import Route


def validate_yaml(call: Call) -> Response:
    """Say what is wrong with a README.md; 400 when it must not be committed so."""
    verdict = validate(call.text("content"), call.text("repoType", "model"))
    answer = {
        "errors": [{"message": message} for message in verdict.errors],
        "warnings": [{"message": message} for message in verdict.warnings],
    }
    return JSONResponse(answer, 400 if verdict.errors else 200)


ROUTES = (Route("POST", "/api/validate-yaml", validate_yaml, Access.NO_REPO),)
