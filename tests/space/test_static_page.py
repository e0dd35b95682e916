"""The page without a server: what it shows, what it asks of nobody, and where a Hub runs no app."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner, Result
from faulty_hub import FaultyHub, refuse
from made_models import GPTQ, RTN, full_report
from made_run import make_run

from hubq.cli import cli
from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.card_rules import validate
from hubq.records.number_format import number
from hubq.records.report import Report
from hubq.stages.compare.comparison import entry
from hubq.stages.publish.space.deploy import DeploymentOptions, deploy
from hubq.stages.publish.space.settings import Settings
from hubq.stages.publish.space.static_page import MARK, files, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<script>alert(1)</script>"


class Asking(HTMLParser):
    """All that a browser would fetch or run of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = 0
        self.places: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.scripts += tag == "script" or any(name.startswith("on") for name in found)
        self.places += [found[name] or "" for name in ("src", "srcset") if name in found]
        if tag == "link":
            self.places.append(found["href"] or "")


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    return [full_report(RTN), full_report(GPTQ, divergence=0.05)]


@pytest.fixture(scope="module")
def page(reports: list[Report]) -> dict[str, bytes]:
    return files(reports)


def test_the_table_has_each_models_numbers_and_leads_to_its_card(
    page: dict[str, bytes], reports: list[Report]
) -> None:
    index = page["index.html"].decode()

    for report in reports:
        path = f"models/{report.plan.repo.replace('/', '-')}.html"
        assert f'<a href="{path}">' in index
        assert path in page
        assert number(entry(report).model_bits) in index


def test_a_card_is_that_of_the_report(page: dict[str, bytes]) -> None:
    card = page[f"models/{GPTQ.replace('/', '-')}.html"].decode()

    assert "<h1>" in card
    assert "<table>" in card
    assert "Zero shots." in card
    assert "<picture>" not in re.sub(r"<code>.*?</code>", "", card, flags=re.DOTALL)


def test_a_page_asks_for_its_own_files_only_and_has_them_all(page: dict[str, bytes]) -> None:
    for path in (path for path in page if path.endswith(".html")):
        asking = Asking(page[path].decode())

        assert asking.scripts == 0
        for place in asking.places:
            found = (Path("/") / path).parent.joinpath(place).resolve().relative_to("/")
            assert found.as_posix() in page, (path, place)


def test_what_strangers_wrote_is_text(reports: list[Report]) -> None:
    first = reports[0]
    plan = first.plan.model_copy(update={"repo": f"acme/{HOSTILE}", "base_model": f"x/{HOSTILE}"})
    stranger = first.model_copy(update={"plan": plan, "loader": HOSTILE})

    made = files([stranger, reports[1]])

    pages = [content.decode() for path, content in made.items() if path.endswith(".html")]
    assert any("&lt;script&gt;" in text for text in pages)
    assert not any("<script" in text for text in pages)
    assert all(re.fullmatch(r"[A-Za-z0-9./-]+", path) for path in made)


def test_the_same_reports_give_the_same_bytes(
    page: dict[str, bytes], reports: list[Report]
) -> None:
    assert files(reports) == page


def test_without_models_the_page_says_so() -> None:
    assert b"There are no models here yet." in files([])["index.html"]


def built(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["space", "build", *map(str, arguments)])


def test_build_writes_the_page_of_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "run", GPTQ)

    result = built(tmp_path / "page", tmp_path / "run")

    assert result.exit_code == 0, result.output
    assert Path(result.output.strip()) == tmp_path / "page" / "index.html"
    assert (tmp_path / "page" / MARK).is_file()


def test_building_again_leaves_nothing_of_before(tmp_path: Path, reports: list[Report]) -> None:
    write(reports, tmp_path)

    write(reports[:1], tmp_path)

    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*files(reports[:1]), ".hubq-page"}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(UserError, match="holds files that hubq did not write"):
        write([], tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def unpaid(hub: FaultyHub) -> None:
    """Let the hub refuse the first Space, as the real one refuses apps without a paid plan."""
    hub.faults.add(refuse("POST", r"/api/repos/create", 402, times=1))


def put_up(client: Client, said: list[str], **settings: Any) -> Any:
    return deploy(
        "compare", Settings("acme", **settings), client, DeploymentOptions(tell=said.append)
    )


def test_where_the_hub_runs_no_app_a_static_page_is_deployed_after_saying_so(
    hub: FaultyHub, client: Client, releases: tuple[str, str]
) -> None:
    unpaid(hub)
    said: list[str] = []

    done = put_up(client, said)

    assert (done.sdk, done.hardware, done.models, done.hides_models) == ("static", None, 1, True)
    assert len(said) == 1
    assert "paid plan" in said[0]
    held = client.api().list_repo_files(done.repo, repo_type="space")
    assert {"index.html", "style.css", MARK} <= set(held)
    assert not any(path.endswith(".py") for path in held)


def test_a_public_page_tells_nothing_of_private_models(
    hub: FaultyHub, client: Client, releases: tuple[str, str], tmp_path: Path
) -> None:
    put_up(client, [], static=True)

    client.api().snapshot_download("acme/compare", repo_type="space", local_dir=tmp_path / "held")
    texts = [
        path.read_bytes()
        for path in (tmp_path / "held").rglob("*")
        if path.suffix in {".html", ".csv", ".md"}
    ]
    assert any(RTN.encode() in text for text in texts)
    assert not any(GPTQ.encode() in text for text in texts)


def test_a_private_page_tells_of_all(client: Client, releases: tuple[str, str]) -> None:
    done = put_up(client, [], static=True, private=True)

    assert (done.models, done.hides_models) == (2, False)


def test_deploying_a_static_page_twice_makes_no_second_commit(
    hub: FaultyHub, client: Client, releases: tuple[str, str]
) -> None:
    unpaid(hub)
    put_up(client, [])
    said: list[str] = []

    done = put_up(client, said)

    assert (done.sdk, done.changed, said) == ("static", False, [])


def test_the_readme_of_a_static_page_is_what_a_hub_takes(
    client: Client, releases: tuple[str, str]
) -> None:
    put_up(client, [], static=True)

    place = client.api().hf_hub_download("acme/compare", "README.md", repo_type="space")
    readme = Path(place).read_text(encoding="utf-8")
    head = yaml.safe_load(readme.split("---\n")[1])
    verdict = validate(readme, "space")
    assert (verdict.errors, verdict.warnings) == ([], [])
    assert (head["sdk"], head["app_file"], head["models"]) == ("static", "index.html", [RTN])


def test_another_refusal_stays_one(hub: FaultyHub, client: Client) -> None:
    hub.faults.add(refuse("POST", r"/api/repos/create", 403))

    with pytest.raises(UserError):
        put_up(client, [])


def test_an_app_is_not_replaced_by_a_page(client: Client) -> None:
    put_up(client, [])

    with pytest.raises(UserError, match="Choose another --name"):
        put_up(client, [], static=True)


def test_a_browser_shows_the_page_without_a_complaint(
    browser: "Browser", reports: list[Report], tmp_path: Path
) -> None:
    index = write(reports, tmp_path)
    complaints: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url))

    page.goto(index.as_uri())
    page.get_by_role("link", name="GPTQ").first.click()
    page.get_by_role("heading", level=1).wait_for()

    assert complaints == []
    page.close()
