"""The shop file (TOML) and the environment: read, validated, typed.

Only what a user configures belongs here. What the settings *mean* belongs to the package that uses them
(which account a sale goes to: accounting/chart.py). Secrets never stand in a shop file: it names
environment variables, and `secret()` reads them at the moment of use.
Source of the shop file's form: docs/files-interface.md, "The shop file".
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from kash_pipeline.errors import SettingsError


def rate_to_bp(text: str) -> int:
    """`"5.5"` (percent) to 550 (basis points). Any rate up to two decimals is accepted.

    Raises ValueError for anything else.
    """
    parts = re.fullmatch(r"(\d{1,3})(?:\.(\d{1,2}))?", text, re.ASCII)
    if parts is None:
        raise ValueError(f"{text!r} is no percentage with a dot and at most two decimals: write 20 or 5.5")
    rate_bp = int(parts[1]) * 100 + int((parts[2] or "").ljust(2, "0"))
    if rate_bp > 10_000:
        raise ValueError(f"{text!r} is no percentage between 0 and 100")
    return rate_bp


def bp_to_rate(rate_bp: int) -> str:
    """550 (basis points) to `"5.5"` (percent), the form used in files, shop files and labels."""
    whole, rest = divmod(int(rate_bp), 100)
    return f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)


METHOD_KINDS = (
    "cash",
    "card",
    "cheque",
    "transfer",
    "meal_voucher",
    "holiday_voucher",
    "gift_voucher",
    "credit_note",
    "loyalty",
    "on_account",
    "other",
)
MOVEMENT_KINDS = ("withdrawal", "deposit", "expense", "float")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _matching(pattern: str, words: str) -> AfterValidator:
    """Text that matches; otherwise the message says in words what it must be."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


def _one_of(known: tuple[str, ...], what: str) -> Callable[[dict[str, str]], dict[str, str]]:
    """Keys of an inline table that must be known words; otherwise the nearest one is named."""

    def check(value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"{key!r} is no {what}; {hint}")
        return value

    return check


def _clock(value: object) -> object:
    """`04:00` as text. A bare number would be taken for seconds after midnight."""
    if isinstance(value, time):
        return value
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value, re.ASCII):
        return time.fromisoformat(value)
    raise ValueError('must be an hour of the day in quotes, like "04:00"')


def _month_and_day(value: str) -> str:
    try:
        date.fromisoformat(f"2001-{value}")  # a year without 29 February: a fiscal year must start every year
    except ValueError:
        raise ValueError('must be a month and a day that every year has, like "01-01"') from None
    return value


Account = Annotated[str, _matching(r"[1-9][0-9]{2,19}", "an account number in quotes: 3 to 20 digits, not from 0")]
ClearingAccount = Annotated[
    Account,
    _matching(r"(?!445)[1-5][0-9]*", "a balance sheet account (class 1 to 5, not 445): takings only pass through it"),
]
VatAccount = Annotated[Account, _matching(r"445[0-9]*", "an account of VAT, 445...")]
JournalCode = Annotated[str, _matching(r"[A-Z0-9]{2,5}", "a journal code: two to five capital letters or digits")]
EnvName = Annotated[
    str, _matching(r"[A-Za-z_][A-Za-z0-9_]{0,63}", "the name of an environment variable, never the secret itself")
]
Url = Annotated[str, _matching(r"https?://[^\s/]+(/\S*)?", "an address that begins with https:// or http://")]


class ShopSection(_Strict):
    id: Annotated[str, _matching(r"[a-z][a-z0-9_]{0,39}", "a to z, 0 to 9 and _, a letter first, at most 40")]
    name: Annotated[str, _matching(r".*\S.*", "the shop's name, on one line")]
    siren: Annotated[str, _matching(r"\d{9}", "the nine digits of the SIREN, in quotes")] | None = None
    timezone: str = "Europe/Paris"
    day_starts_at: Annotated[time, BeforeValidator(_clock)] = time(0, 0)
    fiscal_year_start: Annotated[str, AfterValidator(_month_and_day)] = "01-01"
    prices: Literal["tax_included", "tax_excluded"] = "tax_included"
    vat_rounding: Literal["order", "line"] = "order"
    granularity: Literal["order", "day", "z"] = "day"
    accounting_chapters: StrictBool = False
    named_customers: Literal["own_account", "collective"] = "own_account"

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is no time zone of the IANA list (example: Europe/Paris)") from None
        return value


class SourceSection(_Strict):
    kind: Literal["kash_api", "kash_accounting_csv", "kash_fec", "files"]
    path: str | None = None
    url: Url | None = None
    shop_id_env: EnvName = "KASH_SHOP_ID"
    key_env: EnvName = "KASH_API_KEY"
    # Kash.click documents no call that reads closings (kash-api.md section 0). A script named here is asked for
    # them; without it the source declares that it has none, and no closing entry is made.
    closings_script: str | None = None
    # Business days asked for in one call; no limit is documented, so answers are kept small.
    window_days: int = Field(default=7, ge=1, le=366)
    # How the answers are written and how the server reads dates; `kash-pipeline kash probe` names both.
    dialect: Literal["english", "french", "nested"] = "english"
    time_rule: Literal["utc", "local"] = "utc"
    # Where the list of orders has no lines and payments: one getOrder.php per new or changed order, so many at once.
    order_detail: StrictBool = False
    parallel: int = Field(default=4, ge=1, le=16)
    # Days read again every night: offline sales arrive late, value dates may lie in the past.
    look_back_days: int = Field(default=35, ge=0, le=366)
    # Orders held against the daily report per rate and method, and further forms of it kept as evidence.
    control_totals: StrictBool = False
    evidence: tuple[Literal["CSV", "PDF"], ...] = ()
    # A number missing in the sequence of orders holds its day: Kash.click documents a sequence without gaps.
    number_gaps: Literal["hold", "ignore"] = "hold"
    # Closings pushed by Kash.click's webhook, for a shop with one register: the event names none.
    closings_from_webhook: StrictBool = False
    webhook_secret_env: EnvName = "KASH_WEBHOOK_SECRET"
    # Raw answers are vouchers: ten years (Code de commerce, art. L123-22), six at least (LPF, art. L102 B).
    raw_years: int = Field(default=10, ge=6, le=100)
    # kash_accounting_csv and kash_fec: rate (percent) of a sales account, where an order has several rates.
    rates_by_account: dict[str, str] = Field(default_factory=dict)

    @field_validator("rates_by_account")
    @classmethod
    def _percentages(cls, value: dict[str, str]) -> dict[str, str]:
        for rate in value.values():
            rate_to_bp(rate)
        return value

    @model_validator(mode="after")
    def _has_a_place(self) -> "SourceSection":
        if self.kind == "kash_api" and not self.url:
            raise ValueError('kind = "kash_api" needs url = "https://kash.click/workers"')
        if self.kind != "kash_api" and not self.path:
            raise ValueError(f'kind = "{self.kind}" needs path = "..."')
        return self


class PennylaneSection(_Strict):
    url: Url = "https://app.pennylane.com"
    auth: Literal["oauth", "token"] = "oauth"
    client_id_env: EnvName = "PENNYLANE_CLIENT_ID"
    client_secret_env: EnvName = "PENNYLANE_CLIENT_SECRET"
    token_env: EnvName = "PENNYLANE_TOKEN"
    redirect_url: Url = "http://127.0.0.1:8799/pennylane/callback"
    create_journals: StrictBool = True
    create_accounts: StrictBool = True
    correct: Literal["reverse", "hold"] = "reverse"
    letter: StrictBool = False
    attach_z: StrictBool = False
    # PennyLane may have several accounts of one number, one for each VAT rate: the id of the one to use.
    account_ids: dict[Account, StrictInt] = Field(default_factory=dict)


class RoundingAccounts(_Strict):
    loss: Account = "658000"
    gain: Account = "758000"


class ChartPeriod(_Strict):
    """One dated chart. Keys of `sales`, `vat` and the inner table of `sales_by_department` are rates in percent."""

    start: date = Field(alias="from")
    sales: dict[str, Account] = Field(default_factory=dict)
    vat: dict[str, VatAccount] = Field(default_factory=dict)
    methods: Annotated[dict[str, Account], AfterValidator(_one_of(METHOD_KINDS, "kind of payment method"))] = Field(
        default_factory=dict
    )
    customers: Account = "411000"
    takings_to_come: ClearingAccount = "580100"
    takings_paid: ClearingAccount = "580200"
    cash_short: Account = "658000"
    cash_over: Account = "758000"
    vouchers: Account = "419100"
    deposits: Account = "419100"
    tips: Account = "467100"
    rounding: RoundingAccounts = RoundingAccounts()
    cash_movements: Annotated[dict[str, Account], AfterValidator(_one_of(MOVEMENT_KINDS, "kind of cash movement"))] = (
        Field(default_factory=dict)
    )
    sales_by_department: dict[str, dict[str, Account]] = Field(default_factory=dict)
    methods_by_id: dict[str, Account] = Field(default_factory=dict)

    @field_validator("sales", "vat")
    @classmethod
    def _rates(cls, value: dict[str, str]) -> dict[str, str]:
        seen: dict[int, str] = {}
        for key in value:
            if key != "default" and (other := seen.setdefault(rate_to_bp(key), key)) != key:
                raise ValueError(f"{other!r} and {key!r} are the same rate; keep one of them")
        return value

    @field_validator("sales_by_department")
    @classmethod
    def _department_rates(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for rates in value.values():
            cls._rates(rates)
        return value


class ShopFile(_Strict):
    """One shop, validated. `path` is where it came from, for messages and for relative paths in it."""

    shop: ShopSection
    source: SourceSection
    pennylane: PennylaneSection | None = None
    chart: tuple[ChartPeriod, ...] = Field(min_length=1)
    journals: dict[str, JournalCode] = Field(default_factory=dict)
    path: Path | None = Field(default=None, exclude=True)

    @field_validator("chart")
    @classmethod
    def _sorted_chart(cls, value: tuple[ChartPeriod, ...]) -> tuple[ChartPeriod, ...]:
        starts = [period.start for period in value]
        if len(set(starts)) != len(starts):
            raise ValueError("two [[chart]] tables have the same from")
        return tuple(sorted(value, key=lambda period: period.start))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.shop.timezone)

    def source_path(self) -> Path:
        """`[source] path`, taken relative to the shop file. Not for a URL, which `source_url` gives."""
        relative = Path(self.source.path or "")
        return relative if relative.is_absolute() or self.path is None else self.path.parent / relative

    def source_url(self) -> str | None:
        """`[source] path` where it is a URL (`s3://...`); None for a path."""
        path = self.source.path or ""
        return path if "://" in path else None

    def fiscal_year_of(self, day: date) -> tuple[date, date]:
        """First and last day of the fiscal year that holds `day`."""
        month, dom = (int(part) for part in self.shop.fiscal_year_start.split("-"))
        start = date(day.year, month, dom)
        if day < start:
            start = start.replace(year=start.year - 1)
        return start, date.fromordinal(start.replace(year=start.year + 1).toordinal() - 1)


def _known_keys(model: type[BaseModel]) -> list[str]:
    return [
        field.alias or name for name, field in model.model_fields.items() if name != "path" or model is not ShopFile
    ]


_SECTIONS: dict[str, type[BaseModel]] = {
    "shop": ShopSection,
    "source": SourceSection,
    "pennylane": PennylaneSection,
    "chart": ChartPeriod,
    "rounding": RoundingAccounts,
}


def _place(location: list[Any]) -> str:
    """`chart.0.vat` as a person counts it: `[[chart]] number 1, vat`."""
    if len(location) > 1 and location[0] == "chart" and isinstance(location[1], int):
        rest = ".".join(str(part) for part in location[2:])
        return f"[[chart]] number {location[1] + 1}" + (f", {rest}" if rest else "")
    return ".".join(str(part) for part in location)


def _explain(error: Any, path: Path) -> tuple[str, str]:
    location = list(error["loc"])
    where = _place(location)
    if error["type"] == "extra_forbidden":
        key = str(location[-1])
        section = next((str(part) for part in reversed(location[:-1]) if isinstance(part, str)), "")
        known = _known_keys(_SECTIONS.get(section, ShopFile))
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{path}: unknown key {key!r} ({where})", hint
    if error["type"] == "missing":
        if len(location) == 1:
            table = "[[chart]]" if location[0] == "chart" else f"[{location[0]}]"
            return f"{path}: the table {table} is missing", f"add {table}; docs/files-interface.md has an example"
        return f"{path}: {where} is missing", f"add {location[-1]} to {_place(location[:-1])}"
    if error["type"] in ("model_type", "dict_type"):
        return f"{path}: {where} must be a table", f"write it as [{where}], docs/files-interface.md has an example"
    if error["type"] in ("tuple_type", "too_short"):
        return f"{path}: {where} must be tables, at least one", f"write each as [[{where}]]"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    # What was typed where the name of a variable belongs may be the secret itself.
    is_secret = str(location[-1]).endswith("_env")
    shown = f" (found {given!r})" if isinstance(given, str | int | bool) and not is_secret else ""
    return f"{path}: {where}: {message}{shown}", "correct this value in the shop file"


def load_shop(path: Path | str) -> ShopFile:
    """Read and validate a shop file.

    Raises SettingsError with the file, the key and the nearest known key or the correction.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(
            f"{file}: there is no such shop file",
            next_step="give its path with --shop; shops/sandbox.toml is an example",
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: not UTF-8 at byte {error.start}", next_step="save the file as UTF-8") from None
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot be read ({error.strerror})", next_step="check the path and its rights"
        ) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: no valid TOML: {error}", next_step="correct the line named above") from None
    return shop_from(data, file)


def shop_from(data: dict[str, Any], path: Path) -> ShopFile:
    """Validate the content of a shop file; see `load_shop`."""
    if "path" in data:  # a field of ShopFile that is not the file's to set
        raise SettingsError(f"{path}: unknown key 'path'", next_step="[source] has a path; a shop file has none")
    try:
        return ShopFile.model_validate({**data, "path": path})
    except ValidationError as error:
        # A chart with an error in it is left out by pydantic, which then says that the list is too short.
        errors = error.errors()
        inside_chart = any(item["loc"][0] == "chart" and len(item["loc"]) > 1 for item in errors)
        errors = [item for item in errors if not (inside_chart and item["type"] == "too_short")]
        problems = [_explain(item, path) for item in errors]
        message = "\n".join(text for text, _ in problems)
        raise SettingsError(message, next_step=problems[0][1]) from None


def secret(name: str, *, used_for: str) -> str:
    """The environment variable `name`; raises SettingsError that says what it is used for, never its value."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise SettingsError(
            f"environment variable {name} is not set; it holds {used_for}",
            next_step=f"export {name}=... (see .env.example)",
        )
    return value


@dataclass(frozen=True)
class Environment:
    """Where state lives. Every path and URL of the running pipeline comes from here.

    home            KASH_HOME, default `.kash` in the working directory: everything kept on this machine
    lake_url        KASH_LAKE_URL, any fsspec URL, default `<home>/lake`
    database_url    KASH_DATABASE_URL, a postgresql:// URL; None means the embedded PostgreSQL under `<home>/pg`
    shop_path       KASH_SHOP, the shop file of the Dagster code location, default shops/sandbox.toml
    deployment      KASH_DEPLOYMENT: local (default), staging or production; says which schedules and sensors start
                    switched on (defs/jobs.py)
    """

    home: Path
    lake_url: str
    database_url: str | None
    shop_path: Path
    deployment: str = "local"

    @classmethod
    def read(cls) -> "Environment":
        home = Path(os.environ.get("KASH_HOME", ".kash")).absolute()
        return cls(
            home=home,
            lake_url=os.environ.get("KASH_LAKE_URL") or str(home / "lake"),
            database_url=os.environ.get("KASH_DATABASE_URL") or None,
            shop_path=Path(os.environ.get("KASH_SHOP", "shops/sandbox.toml")),
            deployment=os.environ.get("KASH_DEPLOYMENT") or "local",
        )
