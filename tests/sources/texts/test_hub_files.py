"""Which files of a Hub data set are a subset and split."""

import pytest

from hubq.errors import UserError
from hubq.sources.texts.hub_files import Pinned, files_of, fits

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def pinned(*names: str, configs: object = None) -> Pinned:
    return Pinned("any/texts", COMMIT, names, configs)


def test_the_card_says_which_files_make_a_split() -> None:
    config = {"config_name": "small", "data_files": [{"split": "test", "path": "b/*.parquet"}]}
    repo = pinned("a/1.parquet", "b/1.parquet", "b/2.parquet", configs=[config])

    assert files_of(repo, "small", "test").files == ["b/1.parquet", "b/2.parquet"]


def test_files_that_the_card_lists_without_a_split_are_its_train_split() -> None:
    config = {"config_name": "default", "data_files": ["a.jsonl", "b.jsonl"]}
    repo = pinned("a.jsonl", "b.jsonl", "c.jsonl", configs=[config])

    assert files_of(repo, None, "train").files == ["a.jsonl", "b.jsonl"]


def test_without_a_card_the_paths_say_it() -> None:
    repo = pinned("en/test-00000.parquet", "de/test-00000.parquet", "en/train-00000.parquet")

    assert files_of(repo, "en", "test").files == ["en/test-00000.parquet"]


def test_several_subsets_are_asked_about() -> None:
    with pytest.raises(UserError, match=r"name the `subset` \(a folder\); there are de, en"):
        files_of(pinned("en/test.jsonl", "de/test.jsonl"), None, "test")


def test_a_loading_script_is_refused_with_the_conversion_named() -> None:
    with pytest.raises(UserError, match="any/texts@refs/convert/parquet"):
        files_of(pinned("texts.py", "README.md"), None, "test")


def test_a_split_that_is_not_there_shows_what_is() -> None:
    with pytest.raises(UserError, match="no split test; set `split` to one that it has: train"):
        files_of(pinned("train.jsonl"), None, "test")


@pytest.mark.parametrize("default", ["train", "test"])
@pytest.mark.parametrize("configs", [None, [{"data_files": "*.jsonl"}]])
def test_a_data_set_without_splits_is_taken_whole(default: str, configs: object) -> None:
    repo = pinned("b.jsonl", "a.jsonl", "README.md", "dataset_info.json", configs=configs)

    found = files_of(repo, None, None, default=default)

    assert found == ("train", ["a.jsonl", "b.jsonl"])


def test_a_train_split_is_not_measured_on_unless_it_is_named() -> None:
    repo = pinned("data/train-00000-of-00001.parquet", "data/dev-00000-of-00001.parquet")

    with pytest.raises(UserError, match="no split test; set `split` to one that it has: dev, tra"):
        files_of(repo, None, None, default="test")
    assert files_of(repo, None, "train").files == ["data/train-00000-of-00001.parquet"]


def test_splits_of_any_name_are_told_by_their_numbered_parts() -> None:
    repo = pinned("data/train_sft-00000-of-00001.parquet", "data/train_gen-00000-of-00001.parquet")

    assert files_of(repo, None, "train_gen").files == ["data/train_gen-00000-of-00001.parquet"]


def test_other_words_for_a_split_are_known() -> None:
    assert files_of(pinned("dev.csv", "training.csv"), None, "validation").files == ["dev.csv"]


@pytest.mark.parametrize(
    "configs",
    [
        [
            {"config_name": "a", "data_dir": "one"},
            {"config_name": "b", "default": True, "data_dir": "./two/"},
        ],
        [{"config_name": "a"}, {"config_name": "default", "data_files": "two/*"}],
        [{"config_name": "only", "data_dir": "two", "data_files": {"train": ["./x.jsonl"]}}],
    ],
)
def test_the_default_of_a_card_is_taken(configs: list[dict[str, object]]) -> None:
    repo = pinned("one/x.jsonl", "two/x.jsonl", configs=configs)

    assert files_of(repo, None, None).files == ["two/x.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("data/**/*.jsonl", "data/x.jsonl", True),
        ("data/**/*.jsonl", "data/a/b/x.jsonl", True),
        ("**", "a/b/x.jsonl", True),
        ("*.jsonl", "a/x.jsonl", False),
        ("data/*/x.jsonl", "data/a/b/x.jsonl", False),
        ("data/tr?in-[0-9].csv", "data/train-7.csv", True),
        ("**/**/**/x", "x", True),
        ("../x", "x", False),
    ],
)
def test_patterns_are_those_of_globs(pattern: str, name: str, does: bool) -> None:
    assert fits(name, pattern) is does


def test_a_hostile_pattern_takes_no_time() -> None:
    names = [f"{'a' * 100}/{number}.jsonl" for number in range(100)]
    patterns = ["/".join(["**"] * 50 + ["*a" * 40]), "**/" * 2000 + "x"]

    with pytest.raises(UserError, match="lists no file"):
        files_of(pinned(*names, configs=[{"data_files": patterns}]), None, None)


@pytest.mark.parametrize(
    "configs",
    [
        "default",
        [3],
        {"config_name": "default"},
        [{"data_dir": 3}],
        [{"data_files": 3}],
        [{"data_files": [{"split": "train"}]}],
        [{"data_files": [{"split": "train", "path": [None]}]}],
        [{"data_files": {"train": {"a": "b"}}}],
        [{"data_files": "https://elsewhere.example/x.jsonl"}],
        [{"data_files": ["x.jsonl"] * 1000}],
    ],
)
def test_an_odd_card_is_a_user_error(configs: object) -> None:
    with pytest.raises(UserError, match="download the file that you want and name its path"):
        files_of(pinned("x.jsonl", configs=configs), None, None)


@pytest.mark.parametrize("path", ["../../x.jsonl", "/x.jsonl", "a/../x.jsonl", "gone/*.jsonl"])
def test_a_pattern_only_chooses_among_the_names_that_are_listed(path: str) -> None:
    with pytest.raises(UserError, match="its card lists no file that exists"):
        files_of(pinned("x.jsonl", configs=[{"data_files": path}]), None, None)


@pytest.mark.parametrize(
    ("subset", "files"),
    [("en/web", ["en/web/a.jsonl"]), (".", ["b.jsonl"]), ("de", ["de/c.jsonl"])],
)
def test_each_folder_that_is_named_can_be_chosen(subset: str, files: list[str]) -> None:
    repo = pinned("en/web/a.jsonl", "b.jsonl", "de/c.jsonl")

    with pytest.raises(
        UserError, match=r"name the `subset` \(a folder\); there are \., de, en/web"
    ):
        files_of(repo, None, None)

    assert files_of(repo, subset, None).files == files


def test_a_subset_that_is_no_folder_names_those_there_are() -> None:
    with pytest.raises(UserError, match="no subset fr; there are de, en"):
        files_of(pinned("en/test.jsonl", "de/test.jsonl"), "fr", "test")


def test_a_data_set_of_other_files_says_what_it_holds() -> None:
    with pytest.raises(UserError, match=r"holds a\.zip, b\.tar, but no file that hubq reads"):
        files_of(pinned("a.zip", "b.tar"), None, None)
