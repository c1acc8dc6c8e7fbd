"""Shop files as people write them: each mistake is named by table, key and value, with what to write instead."""

from collections.abc import Callable
from datetime import date, time
from pathlib import Path

import pytest

from kash_pipeline.errors import SettingsError
from kash_pipeline.settings import (
    Environment,
    bp_to_rate,
    load_shop,
    rate_to_bp,
    secret,
)

ROOT = Path(__file__).resolve().parents[2]
GOOD = (ROOT / "kash_pipeline_tests" / "golden" / "worked_day" / "shop.toml").read_text(encoding="utf-8")

Refused = Callable[..., SettingsError]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Load a shop file that must not load."""

    def load(text: str | bytes) -> SettingsError:
        file = tmp_path / "shop.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SettingsError) as caught:
            load_shop(file)
        assert str(file) in caught.value.message
        assert caught.value.next_step
        return caught.value

    return load


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


PENNYLANE = "[pennylane]\n{}\n[[chart]]"

MISTAKES: dict[str, tuple[str | bytes, str, str]] = {
    # -- keys
    "unknown key": (
        changed("vat_rounding =", "vat_roundings ="),
        "unknown key 'vat_roundings' (shop.vat_roundings)",
        "did you mean 'vat_rounding'?",
    ),
    "unknown table": (changed("[journals]", "[journal]"), "unknown key 'journal'", "did you mean 'journals'?"),
    "unknown key of a chart": (
        changed("takings_paid =", "taking_paid ="),
        "unknown key 'taking_paid' ([[chart]] number 1, taking_paid)",
        "did you mean 'takings_paid'?",
    ),
    "the name of a field in the code": (
        changed('from = "', 'start = "'),
        "unknown key 'start'",
        "add from to [[chart]] number 1",
    ),
    "unknown key of rounding": (
        changed('vouchers = "419100"', 'rounding = { los = "658000" }'),
        "unknown key 'los'",
        "did you mean 'loss'?",
    ),
    "path at the top": (changed("[shop]", 'path = "x"\n[shop]'), "unknown key 'path'", "[source] has a path"),
    "missing key": (changed('id = "port"\n', ""), "shop.id is missing", "add id to shop"),
    "missing table": (
        changed('[source]\nkind = "files"\npath = "facts"\n', ""),
        "the table [source] is missing",
        "add [source]",
    ),
    "no chart": (GOOD[: GOOD.index("[[chart]]")], "the table [[chart]] is missing", "add [[chart]]"),
    "chart as one table": (changed("[[chart]]", "[chart]"), "chart must be tables", "[[chart]]"),
    "shop as a list": (changed("[shop]", "[[shop]]"), "shop must be a table", "[shop]"),
    "a key twice": (changed("[source]", '[source]\nkind = "files"'), "no valid TOML", "line"),
    "no TOML at all": (b"[shop\nid =", "no valid TOML", "line"),
    "empty file": (b"", "the table [shop] is missing", "add [shop]"),
    "not UTF-8": (
        changed("Boulangerie", "Pâtisserie").encode("latin-1"),
        "not UTF-8 at byte",
        "save the file as UTF-8",
    ),
    # -- values of [shop]
    "SIREN of eight digits": (changed('"123456782"', '"12345678"'), "shop.siren: must be the nine digits", "correct"),
    "SIREN without quotes": (changed('"123456782"', "123456782"), "shop.siren", "correct"),
    "id with capitals": (changed('id = "port"', 'id = "Port"'), "shop.id: must be a to z", "correct"),
    "unknown granularity": (changed('= "day"', '= "daily"'), "'order', 'day' or 'z' (found 'daily')", "correct"),
    "unknown time zone": (changed("Europe/Paris", "Europe/Pariss"), "no time zone of the IANA list", "correct"),
    "time zone that is a path": (changed("Europe/Paris", "/etc/passwd"), "no time zone of the IANA list", "correct"),
    "hour as a number": (
        changed('fiscal_year_start = "01-01"', "day_starts_at = 4"),
        'shop.day_starts_at: must be an hour of the day in quotes, like "04:00" (found 4)',
        "correct",
    ),
    "hour 25": (
        changed('fiscal_year_start = "01-01"', 'day_starts_at = "25:00"'),
        "shop.day_starts_at: must be an hour",
        "correct",
    ),
    "fiscal year from 31 April": (changed('"01-01"', '"04-31"'), "that every year has", "correct"),
    "fiscal year from 29 February": (changed('"01-01"', '"02-29"'), "that every year has", "correct"),
    "yes for true": (
        changed('prices = "tax_included"', 'accounting_chapters = "yes"'),
        "shop.accounting_chapters: Input should be a valid boolean",
        "correct",
    ),
    # -- values of [source] and [pennylane]
    "unknown source": (changed('kind = "files"', 'kind = "file"'), "source.kind", "correct"),
    "files without a path": (changed('path = "facts"\n', ""), 'kind = "files" needs path', "correct"),
    "address without scheme": (
        changed("[[chart]]", PENNYLANE.format('url = "app.pennylane.com"')),
        "pennylane.url: must be an address that begins with https://",
        "correct",
    ),
    "a secret in the file": (
        changed("[[chart]]", PENNYLANE.format('client_secret = "s3cr3t"')),
        "unknown key 'client_secret'",
        "did you mean 'client_secret_env'?",
    ),
    # -- values of [[chart]] and [journals]
    "rate with a comma": (changed('"5.5" = "701055"', '"5,5" = "701055"'), "sales: '5,5' is no percentage", "correct"),
    "rate above 100": (changed('"20" = "707200"', '"200" = "707200"'), "between 0 and 100", "correct"),
    "one rate written twice": (
        changed('"10" = "701100"', '"5.50" = "701100"'),
        "'5.5' and '5.50' are the same rate",
        "correct",
    ),
    "account with a letter": (changed('"701055"', '"70A055"'), "sales.5.5: must be an account number", "correct"),
    "account without quotes": (changed('"701055"', "701055"), "sales.5.5", "correct"),
    "unknown kind of method": (
        changed("cash = ", "cassh = "),
        "'cassh' is no kind of payment method; did you mean 'cash'?",
        "correct",
    ),
    "unknown kind of movement": (
        changed('vouchers = "419100"', 'cash_movements = { withdraw = "580300" }'),
        "'withdraw' is no kind of cash movement; did you mean 'withdrawal'?",
        "correct",
    ),
    "VAT on a sales account": (changed('"445711055"', '"701055"'), "vat.5.5: must be an account of VAT", "correct"),
    "takings on a class 7 account": (
        changed('takings_to_come = "580100"', 'takings_to_come = "707000"'),
        "takings_to_come: must be a balance sheet account",
        "correct",
    ),
    "two charts from one day": (
        changed("[journals]", '[[chart]]\nfrom = "2020-01-01"\n[journals]'),
        "two [[chart]] tables have the same from",
        "correct",
    ),
    "chart from a day that is none": (changed('"2020-01-01"', '"2020-02-30"'), "[[chart]] number 1, from", "correct"),
    "journal code in small letters": (
        changed('C1 = "C1"', 'C1 = "c1"'),
        "journals.C1: must be a journal code",
        "correct",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_shop_file_is_named_with_its_cure(mistake: str, refused: Refused) -> None:
    text, told, next_step = MISTAKES[mistake]
    error = refused(text)
    assert told in error.message
    assert next_step in error.next_step
    assert "at least 1 item" not in error.message, "a chart with an error is not a missing chart"


def test_several_mistakes_are_told_at_once(refused: Refused) -> None:
    text = changed('"123456782"', '"12"').replace('C1 = "C1"', 'C1 = "caisse"').replace('"530000"', '"53A"')
    message = refused(text).message
    assert "shop.siren" in message
    assert "methods.cash" in message
    assert "journals.C1" in message


def test_a_secret_written_where_its_variable_belongs_is_not_repeated(refused: Refused) -> None:
    """A message is logged; what stands in client_secret_env may be the secret itself."""
    error = refused(changed("[[chart]]", PENNYLANE.format('client_secret_env = "s3cr3t-value"')))
    assert "pennylane.client_secret_env: must be the name of an environment variable" in error.message
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize("name", ["nowhere.toml", "."])
def test_a_shop_file_that_is_not_there_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_shop(tmp_path / name)
    assert caught.value.next_step


def test_the_shop_file_of_the_documentation_is_accepted(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "files-interface.md").read_text(encoding="utf-8")
    example = text.split("```toml\n", 1)[1].split("```", 1)[0]
    file = tmp_path / "shop.toml"
    file.write_text(example, encoding="utf-8")
    shop = load_shop(file)
    assert shop.shop.day_starts_at == time(4)
    assert shop.pennylane is not None
    assert shop.chart[0].sales["default"] == "707000"
    assert shop.source_path() == tmp_path / "facts"


def test_the_sandbox_shop_is_accepted() -> None:
    assert load_shop(ROOT / "shops" / "sandbox.toml").shop.id == "boulangerie"


def test_charts_apply_in_the_order_of_their_days(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(changed("[[chart]]", '[[chart]]\nfrom = "2026-07-01"\n[[chart]]'), encoding="utf-8")
    assert [chart.start for chart in load_shop(file).chart] == [date(2020, 1, 1), date(2026, 7, 1)]


@pytest.mark.parametrize(
    ("start", "day", "year"),
    [
        ("01-01", date(2026, 3, 14), (date(2026, 1, 1), date(2026, 12, 31))),
        ("07-01", date(2026, 6, 30), (date(2025, 7, 1), date(2026, 6, 30))),
        ("07-01", date(2026, 7, 1), (date(2026, 7, 1), date(2027, 6, 30))),
        ("03-01", date(2024, 2, 29), (date(2023, 3, 1), date(2024, 2, 29))),
        ("02-28", date(2024, 2, 29), (date(2024, 2, 28), date(2025, 2, 27))),
    ],
)
def test_the_fiscal_year_of_a_day(start: str, day: date, year: tuple[date, date], tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(changed('"01-01"', f'"{start}"'), encoding="utf-8")
    assert load_shop(file).fiscal_year_of(day) == year


@pytest.mark.parametrize(
    ("text", "rate_bp"),
    [("20", 2000), ("5.5", 550), ("5.50", 550), ("2.1", 210), ("1.05", 105), ("0", 0), ("100", 10_000)],
)
def test_rates_are_exact(text: str, rate_bp: int) -> None:
    assert rate_to_bp(text) == rate_bp
    assert rate_to_bp(bp_to_rate(rate_bp)) == rate_bp


@pytest.mark.parametrize("text", ["", "5,5", "20 %", "2e1", "-5", "+5", "5.", ".5", "0.055", "100.01", "NaN", "٢٠"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no percentage"):
        rate_to_bp(text)


def test_a_missing_secret_names_its_variable_and_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASH_TEST_SECRET", "  ")
    with pytest.raises(SettingsError, match="KASH_TEST_SECRET is not set; it holds the key of the till") as caught:
        secret("KASH_TEST_SECRET", used_for="the key of the till")
    assert "export KASH_TEST_SECRET" in caught.value.next_step
    monkeypatch.setenv("KASH_TEST_SECRET", " abc\n")
    assert secret("KASH_TEST_SECRET", used_for="the key of the till") == "abc"


def test_state_lives_under_one_folder_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KASH_HOME", "KASH_LAKE_URL", "KASH_DATABASE_URL", "KASH_SHOP"):
        monkeypatch.delenv(name, raising=False)
    env = Environment.read()
    assert (env.home, env.lake_url, env.database_url) == (tmp_path / ".kash", str(tmp_path / ".kash" / "lake"), None)
    monkeypatch.setenv("KASH_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("KASH_DATABASE_URL", "postgresql://host/db")
    env = Environment.read()
    assert (env.lake_url, env.database_url) == (str(tmp_path / "elsewhere" / "lake"), "postgresql://host/db")
