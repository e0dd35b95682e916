from page.answer_html import (
    conversation,
    notice,
    numbers,
    panel,
    progress_announcement,
    running,
    side_of,
    standings,
)
from serving.conversation import Line, Turn
from serving.messages import Statistics
from serving.streams import Side
from votes.ballots import Standing

HOSTILE = "<script>alert(1)</script>"
STATISTICS = Statistics(tokens=8, first_token=0.123, rate=9.87, memory=820_000_000, peak=10**9)


def side(**changes: object) -> Side:
    return Side(**({"title": "one", "text": "Hi", "note": ""} | changes))  # type: ignore[arg-type]


def test_no_text_of_models_or_visitors_is_html() -> None:
    made = panel(HOSTILE, [side_of(side(text=HOSTILE, note=HOSTILE), HOSTILE)]) + notice(HOSTILE)

    assert "<script" not in made
    assert made.count("&lt;script&gt;") == 6


def test_a_sentence_begins_with_a_capital_but_a_name_stays_as_it_is() -> None:
    assert ">The prompt is empty<" in notice("the prompt is empty")
    assert ">acme/Tiny is gone<" in notice("acme/Tiny is gone")


def test_characters_that_turn_text_around_are_shown_by_number() -> None:
    assert "[U+202E]" in side_of(side(text="\u202eevil"), "")


def test_numbers_have_their_units() -> None:
    made = numbers(STATISTICS)

    assert all(each in made for each in ("0.12 s", "9.9 tokens/s", "0.82 GB"))


def test_under_costs_stands_what_they_are_worth() -> None:
    line = Line("one", (Turn("Hello?", "Hi", "", failed=False, statistics=STATISTICS),))

    assert conversation([line]).count("share this machine") == 1
    assert "share this machine" not in conversation([Line("one")])


def test_answers_that_are_still_coming_are_busy() -> None:
    line = Line("one", (Turn("Hello?", "Hi", "", failed=False, statistics=STATISTICS),))

    assert 'aria-busy="true"' in running([line], "And?", [side()])
    assert "aria-busy" not in conversation([line])


def test_how_far_answers_are_can_be_heard() -> None:
    made = progress_announcement([side(note="in the queue: place 2"), side(title="<b>")])

    assert made == "<p>one: in the queue: place 2. &lt;b&gt;: answered</p>"


def test_of_one_token_there_is_no_speed() -> None:
    assert "speed" not in numbers(STATISTICS.model_copy(update={"rate": None}))


def test_a_blind_side_does_not_betray_itself_by_its_costs() -> None:
    made = side_of(side(statistics=STATISTICS), "Hello?", measured=False)

    assert "GB" not in made


def test_standings_show_rates_with_intervals() -> None:
    row = Standing(
        model="acme/<b>",
        votes=4,
        wins=3,
        losses=1,
        ties=0,
        both_bad=0,
        rate=0.75,
        low=0.3,
        high=0.95,
    )

    made = standings([row])

    assert "75 %" in made
    assert "30 to 95 %" in made
    assert "acme/&lt;b&gt;" in made


def test_without_votes_that_is_said() -> None:
    assert "Nobody has voted yet" in standings([])
