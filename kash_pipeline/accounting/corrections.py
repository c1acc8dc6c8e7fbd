"""What to send when facts changed after sending: a reversal of what was sent, and the entry that should stand now.

Only what the correction says. Whether one may be sent (shop file, `correct`) and what was sent is the publication
ledger's; entries themselves are built by build.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pandas as pd
import pyarrow as arrow

from kash_pipeline.accounting.keys import correction_key, line_digests
from kash_pipeline.schemas.columns import conform, empty, table, text
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES

LINKS = table(
    "correction_links",
    "How the entries of a correction hang together.",
    [
        text("entry_key", "Entry of the correction."),
        text("role", "reversal or replacement."),
        text("corrects", "Key of the entry that was sent."),
        text("stands_for", "Key under which the entry is built from facts."),
    ],
    unique=["entry_key"],
)


@dataclass(frozen=True)
class Corrections:
    """`entries` and `entry_lines` to send (schemas/entries.py), and `links` between them and what was sent."""

    entries: pd.DataFrame
    entry_lines: pd.DataFrame
    links: pd.DataFrame


def correct(
    sent: pd.DataFrame,
    sent_lines: pd.DataFrame,
    now: pd.DataFrame,
    now_lines: pd.DataFrame,
    *,
    stands_for: Mapping[str, str] | None = None,
    first_open: date | None = None,
    number: int = 1,
) -> Corrections:
    """Reversals and replacements that turn what was sent into what should stand now.

    `sent`, `now`: entries; `sent_lines`, `now_lines`: their lines, in cents. An entry whose digest is unchanged gives
    nothing; a changed one gives the same lines with the sides swapped and the entry as it is now; one that should
    no longer stand gives the reversal alone. Entries of `now` that were never sent are not a correction and left out.
    `stands_for` says for an entry sent as a replacement (key ...-N1) which key it is built under; `number` counts the
    corrections of that entry. A date before `first_open` (the period is closed) becomes that day; the business day
    stays. Key and label of each entry name the entry they correct.
    """
    origin = dict(stands_for or {})
    current = dict(zip(now["entry_key"].astype("str"), now["digest"].astype("str"), strict=True))
    heads: list[pd.DataFrame] = []
    lines: list[pd.DataFrame] = []
    links: list[dict[str, str]] = []
    for key, digest in sorted(zip(sent["entry_key"].astype("str"), sent["digest"].astype("str"), strict=True)):
        built_as = origin.get(key, key)
        if current.get(built_as) == digest:
            continue
        old, old_lines = _one(sent, sent_lines, key)
        back = correction_key(built_as, "R", number)
        swapped = old_lines.rename(columns={"debit_cents": "credit_cents", "credit_cents": "debit_cents"})
        _add(heads, lines, old, swapped, back, f"Extourne {key} : {old['label'].iloc[0]}", first_open)
        links.append({"entry_key": back, "role": "reversal", "corrects": key, "stands_for": built_as})
        if built_as in current:
            new, new_lines = _one(now, now_lines, built_as)
            again = correction_key(built_as, "N", number)
            _add(heads, lines, new, new_lines, again, f"Remplace {key} : {new['label'].iloc[0]}", first_open)
            links.append({"entry_key": again, "role": "replacement", "corrects": key, "stands_for": built_as})
    if not heads:
        return Corrections(empty(ENTRIES), empty(ENTRY_LINES), empty(LINKS))
    return Corrections(
        conform(pd.concat(heads, ignore_index=True), ENTRIES),
        conform(pd.concat(lines, ignore_index=True), ENTRY_LINES),
        conform(pd.DataFrame(links), LINKS),
    )


def _one(entries: pd.DataFrame, lines: pd.DataFrame, key: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One entry and its lines, text as plain text."""
    head = entries[(entries["entry_key"] == key).to_numpy()]
    mine = lines[(lines["entry_key"] == key).to_numpy()]
    return conform(_plain(head), ENTRIES), conform(_plain(mine), ENTRY_LINES).sort_values("line_no", ignore_index=True)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    coded = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(coded, "str"))


def _add(
    heads: list[pd.DataFrame],
    lines: list[pd.DataFrame],
    head: pd.DataFrame,
    own: pd.DataFrame,
    key: str,
    label: str,
    first_open: date | None,
) -> None:
    own = own.assign(entry_key=key)
    when = head["date"].iloc[0]
    if first_open is not None:
        when = max(when, pd.Timestamp(first_open))
    heads.append(
        head.assign(
            entry_key=key,
            label=label,
            date=pd.Series([when]).astype("datetime64[ms]"),
            debit_cents=own["debit_cents"].sum(),
            credit_cents=own["credit_cents"].sum(),
            digest=digest_of(own),
        )
    )
    lines.append(own[list(ENTRY_LINES.columns)])


def digest_of(lines: pd.DataFrame) -> str:
    """The digest of one entry: sha256 over its sorted lines (account, customer, rate, method, debit, credit)."""
    texts = ("account", "customer_id", "vat_rate_bp", "method_id", "debit_cents", "credit_cents")
    columns = [arrow.array(lines[name], from_pandas=True) for name in texts]
    chunks = [column.combine_chunks() if isinstance(column, arrow.ChunkedArray) else column for column in columns]
    return line_digests([chunk.cast(arrow.string()) for chunk in chunks], pd.array([0], dtype="int64").to_numpy())[0]
