"""First contact with an account: the probe tells dialects and clocks apart, the settings it names give true facts."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kash_pipeline.cli.main import cli
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.pos import open_source
from kash_pipeline.pos.kash_api.probe import redacted
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.kash import Account
from kash_pipeline.settings import load_shop
from kash_pipeline_tests.unit.pos.kash_till import KEY, SHOP, Till, kash_till

DAY = date(2026, 3, 14)
EMAIL = "till@boulangerie.example"


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KASH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KASH_LAKE_URL", raising=False)
    monkeypatch.setenv("KASH_SHOP_ID", SHOP)
    monkeypatch.setenv("KASH_API_KEY", KEY)
    return tmp_path / "home"


def shop_file(bakery: Dataset, till: Till, folder: Path, *lines: str) -> Path:
    """The bakery's shop file at this till as before any probe, with further lines in [source]."""
    text = bakery.shop_path.read_text().replace("http://127.0.0.1:8711/workers", till.url)
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("control_totals"))
    added = "".join(f"{line}\n" for line in lines)
    path = folder / f"shop{len(lines)}.toml"
    path.write_text(text.replace('kind = "kash_api"\n', f'kind = "kash_api"\n{added}'))
    return path


def run(*arguments: Any, **options: Any) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **options)


def probed(shop: Path, out: Path) -> tuple[Result, dict[str, Any]]:
    result = run("kash", "probe", "--shop", shop, "--day", DAY, "--out", out)
    assert result.exit_code in (0, 2), result.output
    return result, json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def plain(bakery: Dataset) -> Iterator[Till]:
    with kash_till(bakery, account=Account(email=EMAIL, password="baguette tradition")) as till:
        yield till


@pytest.mark.parametrize(
    ("dialect", "time_rule", "headers_only"),
    [("french", "utc", False), ("english", "local", True), ("nested", "local", False)],
)
def test_the_settings_named_make_the_account_readable(
    bakery: Dataset, tmp_path: Path, dialect: str, time_rule: str, headers_only: bool
) -> None:
    """From a shop file that does not fit, by the probe's own words, to the facts of the till."""
    with kash_till(bakery, dialect=dialect, time_rule=time_rule, headers_only=headers_only) as till:
        result, report = probed(shop_file(bakery, till, tmp_path), tmp_path / "first")
        assert result.exit_code == 2
        assert (report["dialect"], report["time_rule"], report["order_detail"]) == (dialect, time_rule, headers_only)
        assert report["differences"] == []
        assert report["compared"] > 10
        assert f"bounds are read the same way ({time_rule})" in report["notes"]
        assert "both bounds of a window are included" in report["notes"]
        lines = [f"{name} = {value}" for name, value in report["settings"].items()]
        assert "write in [source] of the shop file" in result.output
        for line in lines:
            assert line in result.output
        purposes = [answer["purpose"] for answer in report["answers"] if answer["call"] == "getOrders.php"]
        assert len(set(purposes)) == len(purposes)  # five calls of one name are told apart
        assert all(purpose in result.output for purpose in purposes)
        fitting = shop_file(bakery, till, tmp_path, *lines)
        again, report = probed(fitting, tmp_path / "again")
        assert again.exit_code == 0, again.output
        assert report["settings"] == {}
        with open_source(load_shop(fitting)) as source:
            (day,) = source.sales(DAY, DAY)
        orders = bakery.facts.orders[bakery.facts.orders["business_day"] == str(DAY)]
        assert set(day.orders["order_id"]) == set(orders["order_id"])
        assert day.orders["validated_at"].min() == orders["validated_at"].min()


@pytest.mark.parametrize(("dialect", "time_rule", "headers_only"), [("french", "local", True), ("nested", "utc", True)])
def test_every_dialect_is_told_on_either_clock(
    bakery: Dataset, tmp_path: Path, dialect: str, time_rule: str, headers_only: bool
) -> None:
    """With the tests above and below, all six pairs."""
    with kash_till(bakery, dialect=dialect, time_rule=time_rule, headers_only=headers_only) as till:
        result, report = probed(shop_file(bakery, till, tmp_path), tmp_path / "out")
    assert result.exit_code == 2
    assert report["settings"] == {
        name: value
        for name, value in {
            "dialect": f'"{dialect}"',
            "time_rule": f'"{time_rule}"',
            "order_detail": "true",
            "control_totals": "true",
        }.items()
        if value != '"utc"'
    }
    assert report["differences"] == []


def test_an_account_that_fits_is_trusted_with_its_totals(
    bakery: Dataset, plain: Till, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, report = probed(shop_file(bakery, plain, tmp_path), tmp_path / "out")
    # A dialect that does not fit knows none of the fields: nobody is told of that.
    assert [record.getMessage() for record in caplog.records if record.name.startswith("kash_pipeline")] == []
    assert result.exit_code == 0
    assert report["settings"] == {"control_totals": "true"}
    assert (
        f"{report['compared']} sums of the daily report equal those of the orders, to the cent"
        in (tmp_path / "out" / "report.md").read_text()
    )
    assert {answer["call"] for answer in report["answers"]} >= {"getOrders.php", "getSales.php", "getUsers.php"}


def test_renamed_fields_and_wrong_totals_are_named(bakery: Dataset, plain: Till, tmp_path: Path) -> None:
    def reshape(script: str, body: Any) -> Any:
        for record in body if script == "getCashbox.php" else []:
            record["designation"] = record.pop("name")
        if script == "getPaymentModes.php":
            body[3]["type"] = "Solana_Refund"
        if script == "getOrders.php" and body:
            body[0]["items"][0]["allergens"] = "nuts"
        return body

    plain.faults.reshape = reshape
    day = bakery.facts.orders[bakery.facts.orders["business_day"] == str(DAY)]
    late = day["order_id"].iloc[3]
    try:
        # The report sums orders by their VAT; this one has none in it, but its total.
        plain.faults.changed[late] = lambda order: order["VATs"].clear()
        result, report = probed(shop_file(bakery, plain, tmp_path), tmp_path / "out")
    finally:
        plain.faults.clear()
    assert result.exit_code == 2
    (cashbox,) = (answer for answer in report["answers"] if answer["call"] == "getCashbox.php")
    assert cashbox["missing"] == ["name"]
    assert cashbox["unknown"] == ["designation (str)"]
    assert "payment methods of a type nobody declared (Solana)" in result.output
    assert "nobody declared, kept raw and not used: items.allergens" in result.output.replace("\n", " ")
    total = int(day["total_cents"].sum())
    assert report["differences"][-1] == (
        f"total: orders {total} cents, report {total - int(day['total_cents'].iloc[3])} cents"
    )


def test_what_does_not_answer_is_a_finding_and_the_rest_goes_on(bakery: Dataset, plain: Till, tmp_path: Path) -> None:
    plain.faults.set("html", script="getClients.php")
    try:
        result, report = probed(shop_file(bakery, plain, tmp_path), tmp_path / "out")
    finally:
        plain.faults.clear()
    (clients,) = (answer for answer in report["answers"] if answer["call"] == "getClients.php")
    assert "no JSON" in clients["outcome"]
    assert report["dialect"] == "english"
    orders = (bakery.facts.orders["business_day"] == str(DAY)).sum()
    assert f"- {orders} orders, from 312607 at 07:08 to" in result.output


def test_an_account_that_answers_nothing_is_refused_with_the_reason(
    bakery: Dataset, plain: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a wrong key nor a maintenance page is a dialect to write."""
    plain.faults.set("html")
    try:
        page = run(
            "kash", "probe", "--shop", shop_file(bakery, plain, tmp_path), "--day", DAY, "--out", tmp_path / "no"
        )
    finally:
        plain.faults.clear()
    monkeypatch.setenv("KASH_API_KEY", "not-the-key")
    refused = run("kash", "probe", "--shop", shop_file(bakery, plain, tmp_path), "--day", DAY, "--out", tmp_path / "no")
    for result, reason in ((page, "a page instead of JSON: 'Kash.click Maintenance"), (refused, "'Wrong API key'")):
        assert isinstance(result.exception, KashPipelineError)
        assert reason in str(result.exception)
    assert not (tmp_path / "no").exists()


def test_a_day_without_orders_names_no_setting_it_cannot_know(bakery: Dataset, plain: Till, tmp_path: Path) -> None:
    shop = shop_file(bakery, plain, tmp_path, "order_detail = true")
    result = run("kash", "probe", "--shop", shop, "--day", "2026-05-20", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "no orders around 2026-05-20" in result.output
    assert "order_detail =" not in result.output
    future = run("kash", "probe", "--shop", shop, "--day", "2099-01-01", "--out", tmp_path / "out")
    assert "is not over yet" in str(future.exception)


@pytest.mark.parametrize(
    ("body", "sample"),
    [
        (
            "<h1>Boulangerie 12</h1><table><tr><th>Client</th><th>TTC</th></tr><tr><td>Zoé Dupont</td><td>4,05 €</td>"
            "</tr></table>Zoé<table class='b'><TR><TD>mode",
            "<h1>xxxxxxxxxxx 00</h1><table><tr><th>Client</th><th>TTC</th></tr><tr><td>xxx xxxxxx</td><td>0,00 €</td>"
            "</tr></table>xxx<table class='b'><TR><TD>mode",
        ),
        ("date;client\n14/03/2026;Dupont\n", "date;client\n00/00/0000;xxxxxx\n"),
    ],
)
def test_a_sample_of_a_page_keeps_its_form_and_its_headings(body: str, sample: str) -> None:
    """A daily report may list customers, and its sample goes into a mail or a repository."""
    assert redacted("getSales.php", body.encode()).decode() == sample


def test_report_and_samples_hold_no_key_and_no_person(bakery: Dataset, plain: Till, tmp_path: Path) -> None:
    """Searched by value: the key as it is and as JSON writes it, and every customer's and user's name and address."""

    def reshape(script: str, body: Any) -> Any:
        if script == "getOrders.php" and body:  # an empty window has nothing to echo in, and a fault costs retries
            body[0]["echo"] = f"you sent {KEY}"
        return body

    plain.faults.reshape = reshape
    try:
        result, _ = probed(shop_file(bakery, plain, tmp_path), tmp_path / "out")
    finally:
        plain.faults.clear()
    told = result.output + "".join(
        file.read_text(errors="replace") for file in (tmp_path / "out").rglob("*") if file.is_file()
    )
    assert "***" in told
    people = bakery.facts.customers
    secrets = [KEY, json.dumps(KEY)[1:-1], "k3y", *bakery.users["name"]]
    for column in ("name", "email", "address", "registration_number", "vat_number"):
        secrets += people[column].dropna().tolist()
    for secret in secrets:
        assert str(secret) not in told, secret
    orders = json.loads((tmp_path / "out" / "samples" / "getOrders.json").read_text())
    assert len(orders) == 3
    assert orders[1]["items"][0]["title"]  # what a fixture needs is still there


# --- login -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "typed"),
    [((), f"{SHOP}\n{KEY}\n"), (("--password", EMAIL), "baguette tradition\n")],
)
def test_a_login_keeps_the_key_encrypted_and_the_source_uses_it(
    bakery: Dataset,
    plain: Till,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    typed: str,
) -> None:
    monkeypatch.delenv("KASH_API_KEY")
    monkeypatch.delenv("KASH_SHOP_ID")
    shop = shop_file(bakery, plain, tmp_path)
    with (
        pytest.raises(KashPipelineError, match="KASH_API_KEY is not set and nobody logged in") as caught,
        open_source(load_shop(shop)),
    ):
        pass
    assert "kash-pipeline kash login" in caught.value.next_step
    result = run("kash", "login", "--shop", shop, *options, input=typed)
    assert result.exit_code == 0, result.output
    assert KEY not in result.output
    assert "baguette" not in result.output
    for file in home.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes()
            assert file.stat().st_mode & 0o077 == 0
    with open_source(load_shop(shop)) as source:
        assert len(source.reference()["registers"]) == 2
    assert "Forgotten" in run("kash", "logout", "--shop", shop).output
    with pytest.raises(KashPipelineError, match="nobody logged in"), open_source(load_shop(shop)):
        pass


def test_a_one_time_password_is_sent_asked_for_and_works_once(bakery: Dataset, tmp_path: Path, home: Path) -> None:
    account = Account(email=EMAIL)
    with kash_till(bakery, account=account) as till:
        shop = shop_file(bakery, till, tmp_path)
        account.mailbox.append("424242")
        result = run("kash", "login", "--shop", shop, "--otp", EMAIL, input="424242\n")
        assert result.exit_code == 0, result.output
        assert len(account.mailbox) == 1  # the one sent; the one typed is used up
        with pytest.raises(KashPipelineError, match="OTP not found"):
            run("kash", "login", "--shop", shop, "--otp", EMAIL, input="424242\n", catch_exceptions=False)
        with pytest.raises(KashPipelineError, match="refuses: 'Unknown account'"):
            run("kash", "login", "--shop", shop, "--otp", "nobody@x.example", catch_exceptions=False)


def test_an_address_with_several_shops_is_asked_which(bakery: Dataset, tmp_path: Path, home: Path) -> None:
    """A one-time password of the wrong shop would log in there, and its sales go into these books."""
    account = Account(email=EMAIL, shops={"12": "Boulangerie du Port", "15": "Café du Port"})
    with kash_till(bakery, account=account) as till:
        shop = shop_file(bakery, till, tmp_path)
        with pytest.raises(
            KashPipelineError, match=r"has 2 shops: 'Boulangerie du Port' \(12\), 'Café du Port' \(15\)"
        ):
            run("kash", "login", "--shop", shop, "--otp", EMAIL, catch_exceptions=False)
        assert account.mailbox == []
        account.mailbox.append("424242")
        result = run("kash", "login", "--shop", shop, "--otp", EMAIL, "--account", "15", input="424242\n")
        assert result.exit_code == 0, result.output
        with pytest.raises(KashPipelineError, match="Unknown account"):
            run("kash", "login", "--shop", shop, "--otp", EMAIL, "--account", "99", catch_exceptions=False)


def test_a_wrong_key_is_not_kept(bakery: Dataset, plain: Till, tmp_path: Path, home: Path) -> None:
    shop = shop_file(bakery, plain, tmp_path)
    with pytest.raises(KashPipelineError, match="Wrong API key"):
        run("kash", "login", "--shop", shop, input=f"{SHOP}\nwrong\n", catch_exceptions=False)
    assert not list(home.rglob("*.sealed"))
