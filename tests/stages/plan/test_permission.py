"""What a recipe may publish of a base: its license and its gate."""

import pytest
from made_run import made_plan

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError
from hubq.records.plan import BaseCard, Gate
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.source import Source
from hubq.stages.plan.conditions import require_gate_now, require_permission
from hubq.stages.recipe.recipe import PublishSection

NOWHERE = Client("http://127.0.0.1:9", retries=RetryPolicy(tries=1))


def source(license: str | None = "llama3.1", gate: Gate | None = None) -> Source:
    return Source(
        section=ModelSection(hub="meta-llama/Llama-3.1-8B"),
        identity="meta-llama/Llama-3.1-8B@abc",
        config={},
        tensors={},
        base_model="meta-llama/Llama-3.1-8B",
        license=license,
        card=BaseCard(gate=gate),
    )


def publishing(**options: object) -> PublishSection:
    return PublishSection.model_validate({"org": "acme", **options})


@pytest.mark.parametrize("gate", ["auto", "manual", "unknown"])
def test_an_open_copy_of_a_gated_base_is_refused_with_the_ways_out(gate: Gate) -> None:
    with pytest.raises(UserError) as told:
        require_permission(publishing(private=False), source(gate=gate))

    assert "the base meta-llama/Llama-3.1-8B is gated" in str(told.value)
    for way_out in ("publish.gated: auto", "publish.private: true", "open_although_gated: true"):
        assert way_out in str(told.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"private": True},
        {"private": False, "gated": "auto"},
        {"private": False, "gated": "manual"},
        {"private": False, "open_although_gated": True},
    ],
)
def test_a_copy_that_is_guarded_or_wanted_open_is_allowed(options: dict[str, object]) -> None:
    require_permission(publishing(**options), source(gate="manual"))


def test_an_open_copy_of_an_open_base_is_allowed() -> None:
    require_permission(publishing(private=False), source(gate=None))


@pytest.mark.parametrize(
    ("base", "published"),
    [("llama3.1", "mit"), ("llama2", "llama3.1"), ("gemma", "apache-2.0"), ("qwen", "other")],
)
def test_a_license_that_stays_cannot_be_exchanged(base: str, published: str) -> None:
    with pytest.raises(UserError, match=rf"{base}\), which stays(.|\n)*set model\.license"):
        require_permission(publishing(license=published), source(base))


@pytest.mark.parametrize(
    ("base", "published"),
    [
        ("llama3.1", "llama-3.1-community-license"),
        ("apache-2.0", "cc-by-nc-4.0"),
        (None, "mit"),
        ("my-own", "mit"),
    ],
)
def test_other_licenses_leave_the_publisher_a_choice(base: str | None, published: str) -> None:
    require_permission(publishing(license=published), source(base))


def test_what_was_planned_before_gates_were_known_is_looked_at_again_when_published() -> None:
    plan = made_plan(base_card=BaseCard(gate="auto"))
    plan.recipe["publish"]["private"] = False

    with pytest.raises(UserError, match="is gated: every request is granted"):
        require_gate_now(plan, NOWHERE)


def test_a_hub_that_cannot_be_asked_hinders_nothing() -> None:
    plan = made_plan()
    plan.recipe["publish"]["private"] = False

    require_gate_now(plan, NOWHERE)
