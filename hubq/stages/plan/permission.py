"""What a base allows its copies: no other license where its own stays, no open door by accident."""

from typing import TYPE_CHECKING, Any

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.plan import Gate
from hubq.sources.license_terms import terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hubq.records.plan import Plan
    from hubq.sources.source import Source
    from hubq.stages.recipe.recipe import PublishSection

ASKING = {"auto": "whoever asks is let in", "manual": "its owners answer each request"}


def require_permission(publish: "PublishSection", source: "Source") -> None:
    """Refuse what the base's license or gate does not allow, as far as they are known."""
    _require_license(source.license, publish.license)
    require_gate(publish.model_dump(), source.card.gate, source.base_model or source.identity)


def _require_license(base: str | None, published: str | None) -> None:
    """Refuse to put a model under a license that its own forbids."""
    terms = terms_of(base)
    if terms is None or not terms.stays or published is None or terms_of(published) is terms:
        return
    raise UserError(
        f"publish.license {published}: the base is under the {terms.title} ({base}), which stays "
        "with every copy of it.\n"
        f"Leave publish.license out; if {base} is not the base's license, say model.license"
    )


def require_gate(publish: "Mapping[str, Any]", gate: Gate | None, base: str) -> None:
    """Refuse to open to everybody what the base gives only to those who ask."""
    guarded = publish["private"] or publish.get("gated") or publish.get("open_although_gated")
    if gate is None or guarded:
        return
    how = f": {ASKING[gate]}" if gate in ASKING else ""
    raise UserError(
        f"publish.private: false: the base {base} is gated{how}, and a copy that is open to "
        "everybody would go around that.\n"
        "Set publish.gated: auto (or manual), or publish.private: true. If the base's license "
        "allows an open copy and you want one, say publish.open_although_gated: true"
    )


def require_gate_now(plan: "Plan", client: Client) -> None:
    """Look at the base's gate once more before anything becomes public: it may be newer."""
    from hubq.sources.hub import card_on_hub

    publish = plan.recipe["publish"]
    require_gate(publish, plan.base_card.gate, plan.base_model or plan.source)
    if publish["private"] or publish.get("gated") or plan.base_model is None:
        return
    if card := card_on_hub(plan.base_model.partition("@")[0], client, plan.license):
        require_gate(publish, card.gate, plan.base_model)
