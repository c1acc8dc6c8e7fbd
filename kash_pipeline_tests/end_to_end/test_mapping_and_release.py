"""Reference data and the shop file out of step, as a person with a terminal mends it: mapping, held, release."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.cli.main import main
from kash_pipeline.pos.files import write_folder
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import PAYMENT_METHODS, Facts
from kash_pipeline.settings import load_shop
from kash_pipeline_tests.orchestration.till import make_facts, with_method
from kash_pipeline_tests.sandboxes import PennylaneHandle

FIRST, MIDDLE, LAST = date(2025, 2, 27), date(2025, 2, 28), date(2025, 3, 1)
DAYS = ["--from", f"{FIRST}", "--to", f"{LAST}"]

SHOP = """
[shop]
id = "bakery"
name = "Boulangerie du Port"

[source]
kind = "files"
path = "facts"

[pennylane]
url = "{url}"
auth = "token"

[[chart]]
from = "2025-01-01"
sales = {{ "5.5" = "701055", "10" = "701100", "20" = "707200" }}
vat = {{ "5.5" = "445711055", "10" = "445711100", "20" = "445711200" }}
methods = {{ cash = "530", card = "511" }}

[journals]
K1 = "K1"
K2 = "K2"
"""


@dataclass
class Desk:
    """A folder with a shop file and facts, books in a database, a PennyLane sandbox; commands run in this process."""

    folder: Path
    sandbox: PennylaneHandle
    engine: sa.Engine
    capture: Any

    @property
    def shop_file(self) -> Path:
        return self.folder / "shop.toml"

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command."""
        with pytest.raises(SystemExit) as ended:
            main([*words, "--shop", str(self.shop_file)])
        said = self.capture.readouterr()
        assert "Traceback" not in said.err + said.out
        return int(ended.value.code or 0), said.out + said.err

    def pieces(self) -> Counter[str]:
        return Counter(entry.piece_number for entry in self.sandbox.admin.entries())

    def booked(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.exec_driver_sql("select entry_key from kash.entries").scalars())


@pytest.fixture
def desk(
    make_pennylane_sandbox: Callable[..., PennylaneHandle],
    engine: sa.Engine,
    warehouse_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    sandbox = make_pennylane_sandbox(limiter=None)
    for name, value in {
        "KASH_HOME": str(tmp_path / "home"),
        "KASH_DATABASE_URL": warehouse_url,
        "PENNYLANE_TOKEN": sandbox.token,
        # Set by the commands for their own process: put back at the end of the test.
        "DAGSTER_HOME": str(tmp_path),
        "KASH_DAGSTER_DATABASE_URL": "",
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KASH_LAKE_URL", raising=False)
    (tmp_path / "shop.toml").write_text(SHOP.format(url=sandbox.url))
    return Desk(tmp_path, sandbox, engine, capsys)


def with_meal_vouchers(facts: Facts) -> Facts:
    """Register K2 sells in the middle only, and is paid there by a method that the chart has no account for."""
    more = pd.DataFrame({"method_id": ["tr"], "name": ["Ticket Restaurant"], "kind": ["meal_voucher"]})
    methods = conform(pd.concat([facts.payment_methods, more], ignore_index=True), PAYMENT_METHODS)

    def kept(frame: pd.DataFrame) -> pd.DataFrame:
        chosen = (frame["register_id"] == "K1") | (frame["business_day"] == pd.Timestamp(MIDDLE))
        return frame[chosen].reset_index(drop=True)

    sold = {name: kept(getattr(facts, name)) for name in ("orders", "payments", "closings")}
    lines = {
        name: (frame := getattr(facts, name))[frame["order_id"].isin(sold["orders"]["order_id"])]
        for name in ("order_lines", "order_vat")
    }
    return with_method(replace(facts, payment_methods=methods, **sold, **lines), MIDDLE, "K2", "tr")


@pytest.mark.long
def test_a_new_method_in_mid_month_waits_alone_is_mended_and_released_and_all_is_posted_once(desk: Desk) -> None:
    write_folder(with_meal_vouchers(make_facts(FIRST, LAST, orders_per_day=2)), desk.folder / "facts")
    code, said = desk.run("run", *DAYS)
    assert code == 2, said
    before = desk.pieces()
    assert before == Counter(desk.booked())
    assert not any("K2" in piece for piece in before)
    assert any("250301" in piece for piece in before)

    code, said = desk.run("mapping", "check", *DAYS)
    assert code == 2
    assert "Ticket Restaurant" in said
    line = re.search(r"write: (methods = \{.*?\})", " ".join(said.split()))
    assert line, said
    code, said = desk.run("release")
    assert (code, "none of the days that wait is cured" in said) == (2, True)

    # The very line that the check names, put into the file in place of the one that is there.
    text = desk.shop_file.read_text()
    desk.shop_file.write_text(re.sub(r"methods = \{.*\}", line[1], text))
    assert load_shop(desk.shop_file).chart[0].methods["meal_voucher"] == "511700"
    code, said = desk.run("release", "--dry-run")
    assert (code, f"1 day would be built: {MIDDLE}" in said) == (0, True), said
    assert desk.pieces() == before
    code, said = desk.run("release", "--publish")
    assert code == 0, said
    assert f"1 day cured: {MIDDLE}" in said
    after = desk.pieces()
    assert after == Counter(desk.booked())
    assert set(after.values()) == {1}
    assert after.keys() - before.keys() == {piece for piece in after if "K2" in piece} != set()
    code, said = desk.run("release", "--publish")
    assert (code, "nothing waits" in said) == (0, True)
    assert desk.pieces() == after


def test_a_proposal_put_into_the_shop_file_is_right_until_an_account_is_disabled(desk: Desk) -> None:
    """A shop file with nothing but a first day: propose, check, and what diff says after the accountant's hand."""
    write_folder(make_facts(FIRST, FIRST), desk.folder / "facts")
    head, _, _ = desk.shop_file.read_text().partition("[[chart]]")
    desk.shop_file.write_text(head + '[[chart]]\nfrom = "2026-01-01"\n')
    days = ["--from", "2026-01-01", "--to", "2026-06-30"]
    code, said = desk.run("mapping", "check", *days)
    assert code == 2
    assert "has no journal" in said
    code, proposed = desk.run("mapping", "propose")
    assert code == 0
    desk.shop_file.write_text(head + proposed)
    code, said = desk.run("mapping", "check", *days)
    assert (code, "the mapping is complete" in said) == (0, True), said

    desk.sandbox.admin.enable_account("41106001", False)
    code, said = desk.run("mapping", "check", "--fresh", *days)
    assert code == 2
    assert "41106001 « Carte bancaire »" in " ".join(said.split())
    code, said = desk.run("mapping", "diff")
    assert code == 0
    assert "account 41106001 « Carte bancaire »: enabled True → False" in " ".join(said.split())
