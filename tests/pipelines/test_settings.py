import pytest

from pipelines.errors import UsageError
from pipelines.settings import lake_uri, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("S3_DATA_LAKE_BUCKET", "METRIC_THRESHOLD", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.lake, settings.metric_threshold, settings.log_level) == ("", 0.0, "info")


@pytest.mark.parametrize(
    ("variable", "uri"),
    [
        ("fashion-lake", "s3://fashion-lake"),
        ("fashion-lake/staging", "s3://fashion-lake/staging"),
        (" fashion-lake ", "s3://fashion-lake"),
        ("s3://fashion-lake/x", "s3://fashion-lake/x"),
        ("file:///srv/lake", "file:///srv/lake"),
        ("./lake", "./lake"),
        ("/srv/lake", "/srv/lake"),
        ("~/lake", "~/lake"),
    ],
)
def test_the_bucket_variable_holds_a_bucket_a_uri_or_a_folder(
    monkeypatch: pytest.MonkeyPatch, variable: str, uri: str
) -> None:
    monkeypatch.setenv("S3_DATA_LAKE_BUCKET", variable)
    assert lake_uri() == uri
    assert lake_uri("") == uri


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_DATA_LAKE_BUCKET", "fashion-lake")
    assert lake_uri("./mine") == "./mine"
    assert lake_uri("mine") == "mine"  # on the command line a bare word is a folder, as everywhere in a shell


@pytest.mark.parametrize("variable", [None, "", "  "])
def test_no_lake_at_all_says_both_ways_to_give_one(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    if variable is not None:
        monkeypatch.setenv("S3_DATA_LAKE_BUCKET", variable)
    with pytest.raises(UsageError, match=r"pass --lake .* or set S3_DATA_LAKE_BUCKET") as caught:
        lake_uri()
    assert caught.value.exit_code == 2


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METRIC_THRESHOLD", "LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    assert load_settings() == load_settings()
    assert load_settings().metric_threshold == 0.0


@pytest.mark.parametrize("value", ["high", "0,5", "nan", "inf", "1e999"])
def test_threshold_must_be_a_finite_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("METRIC_THRESHOLD", value)
    with pytest.raises(UsageError, match=f"^METRIC_THRESHOLD = '{value}' is not .*such as 0.0, or unset it$"):
        load_settings()


def test_level_is_read_in_any_case_and_a_wrong_one_gets_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    assert load_settings().log_level == "debug"
    monkeypatch.setenv("LOG_LEVEL", "warn")
    with pytest.raises(UsageError, match=r"^LOG_LEVEL = 'warn' is unknown; did you mean 'warning'\?$"):
        load_settings()


def test_every_fault_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRIC_THRESHOLD", "high")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("S3_DATALAKE_BUCKET", "x")
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert str(caught.value).splitlines() == [
        "3 settings are wrong:",
        "  - S3_DATALAKE_BUCKET is not a setting; did you mean S3_DATA_LAKE_BUCKET?",
        "  - METRIC_THRESHOLD = 'high' is not a number; set it to one such as 0.0, or unset it",
        "  - LOG_LEVEL = 'loud' is unknown; known are debug, info, warning, error, critical",
    ]


@pytest.mark.parametrize("name", ["METRIC_TRESHOLD", "METRIC_THRESHOLDS", "metric_threshold"])
def test_a_misspelled_threshold_is_no_silent_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0.5")
    with pytest.raises(UsageError, match=f"{name} is not a setting; did you mean METRIC_THRESHOLD"):
        load_settings()


def test_variables_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGLEVEL", "LAKE", "lake", "METRICS", "S3_BUCKET", "METRIC_THRESHOLD_TEST_UNRELATED_NAME"):
        monkeypatch.setenv(name, "x")
    assert load_settings().lake == ""


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().lake = "other"
