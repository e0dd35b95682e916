"""The text of a model's card, as it was published."""

from pathlib import Path

from releases.models import Released

from hubq.client import Client
from hubq.errors import UserError

LONGEST = 400_000  # bytes of a card that are shown


def card_text(model: Released, client: Client) -> str:
    """Return the card's markdown without its metadata, or a sentence on why there is none."""
    if model.is_base:
        return f"**{model.name}** is the base: its own page tells about it."
    try:
        path = _card(model, client)
    except UserError as error:
        return str(error)
    if path is None:
        return f"There is no card of {model.name} here: hubq card RECIPE writes it."
    with path.open("rb") as file:
        return without_metadata(file.read(LONGEST).decode(errors="replace"))


def _card(model: Released, client: Client) -> Path | None:
    """Return the card's file; that of a repo comes at the commit that is compared."""
    if model.card_file is not None or model.weights is None or model.weights.repo is None:
        return model.card_file
    repo, _, commit = model.weights.repo.partition("@")
    with client.speaking(f"reading the card of {repo}"):
        return Path(
            client.patience.keep_trying(
                lambda: client.api().hf_hub_download(repo, "README.md", revision=commit)
            )
        )


def without_metadata(readme: str) -> str:
    """Drop the YAML block at the head of a card."""
    parts = readme.split("---\n", 2)
    return parts[2].lstrip() if len(parts) == 3 and not parts[0].strip() else readme
