"""Licences: what the Hub calls them, and what Meta's ask of whoever passes a Llama on."""

# Ids that the Hub has for the licences of language models; any other is `other` there, with a name.
HUB_LICENSES = frozenset(
    {
        "apache-2.0",
        "bigcode-openrail-m",
        "bigscience-openrail-m",
        "bsd-3-clause",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "gemma",
        "gpl-3.0",
        "llama2",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama3.3",
        "llama4",
        "mit",
        "openrail",
        "other",
        "unknown",
    }
)


# What Meta's licences, section 1.b, want displayed prominently. The notice of the same section is
# a file of the repo (hubq/companions.py).
BUILT_WITH = {
    "llama3": "Built with Meta Llama 3",
    "llama3.1": "Built with Llama",
    "llama3.2": "Built with Llama",
    "llama3.3": "Built with Llama",
    "llama4": "Built with Llama",
}


def metadata(license: str | None, base_model: str | None) -> dict[str, str]:
    """Return the card's licence keys: the base's licence, never one of our choosing."""
    if license is None:
        return {}
    if license in HUB_LICENSES:
        return {"license": license}
    keys = {"license": "other", "license_name": license.lower().replace(" ", "-")}
    if base_model is not None:
        keys["license_link"] = f"https://huggingface.co/{base_model}"
    return keys
