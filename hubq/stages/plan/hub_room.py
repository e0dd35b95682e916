"""Whether a plan's releases fit into what their account may store on the Hub."""

from dataclasses import replace

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.client.storage import room_for, shortage
from hubq.errors import UserError
from hubq.machine.files import gigabytes
from hubq.records.plan import Plan


def bytes_added(plan: Plan) -> int:
    """Return the bytes of the weights that a run publishes; its other files are small."""
    adapted = plan.adaptation
    if adapted is None:
        return plan.bytes
    section = plan.recipe["publish"]
    elsewhere = section.get("quantized") or section.get("adapter_of") == "base"
    both = adapted.makes == "adapter" and not elsewhere
    return adapted.bytes + (plan.bytes if both else 0)


def storage(plan: Plan, client: Client) -> tuple[str, str | None]:
    """Say what a plan adds to an account's storage and what is left, and what is lacking.

    What the Hub doesn't tell stops no plan. Raises UserError for a limit of the user's own that is
    none.
    """
    needed, private = bytes_added(plan), bool(plan.recipe["publish"]["private"])
    adds = f"about {gigabytes(needed)} more"
    if client.sent_token is None:
        return f"{adds}; not compared: no token", None
    once = replace(client, retries=RetryPolicy(tries=1))  # a plan doesn't wait for a network
    room = room_for(plan.repo, once, private=private)
    return f"{adds}; {room}", shortage(needed, room, client)


def require_storage(plan: Plan, client: Client) -> None:
    """Raise UserError, before anything is computed, for releases that will not fit."""
    _, lacking = storage(plan, client)
    if lacking:
        raise UserError(f"{lacking}; nothing was computed")
