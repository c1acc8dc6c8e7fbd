"""Any history of builds, sendings and crashes ends with PennyLane saying what the books say, each key once."""

import itertools
import os
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kash_pipeline.schemas import entries as schemas
from kash_pipeline.schemas.columns import empty
from kash_pipeline.warehouse import windows
from kash_pipeline.warehouse.ledger import Content, Intent, PublicationLedger
from kash_pipeline_tests.unit.warehouse.samples import MONDAY, entries, held, lines_of

KEYS = ("A", "B")
_shops = itertools.count()

# What the books say of each key: cents, or None for no such entry; or the register-day is held.
says = st.fixed_dictionaries({key: st.sampled_from([100, 200, 300, None]) for key in KEYS})
books = st.one_of(says, says, st.just("held"))
steps = st.one_of(
    st.tuples(st.just("build"), books),
    st.tuples(st.just("build"), books),
    st.tuples(st.just("correct"), st.none()),
    st.tuples(st.just("send"), st.sampled_from(["answered", "lost on the way", "answer lost"])),
    st.tuples(st.just("send"), st.sampled_from(["answered", "lost on the way", "answer lost"])),
    st.tuples(st.just("recover"), st.none()),
)


@dataclass
class History:
    """A shop, its ledger, and a PennyLane that keeps duplicates and deletes nothing."""

    engine: sa.Engine
    ledger: PublicationLedger
    remote: list[Content] = field(default_factory=list)
    wanted: dict[str, int | None] = field(default_factory=dict)

    def build(self, say: dict[str, int | None] | str) -> None:
        waiting = held((MONDAY, "K1")) if say == "held" else held()
        amounts = {} if isinstance(say, str) else say
        frame = entries(*[(key, MONDAY, cents) for key, cents in amounts.items() if cents is not None])
        with self.engine.begin() as connection:
            windows.replace_entries(
                connection,
                self.ledger.shop_id,
                [MONDAY],
                entries=frame,
                entry_lines=lines_of(frame),
                held=waiting,
                notices=empty(schemas.NOTICES),
            )
            self.ledger.sync(connection, frame, waiting, [MONDAY])
        if isinstance(say, str):
            assert self.ledger.changed(MONDAY, MONDAY) == []  # a held day takes nothing back
        else:
            self.wanted = say

    def correct(self) -> None:
        for changed in self.ledger.changed(MONDAY, MONDAY):
            key, revision = changed.row.base_key, changed.next_revision
            reversal = None
            if changed.sent is not None:
                turned = tuple(
                    replace(line, debit_cents=line.credit_cents, credit_cents=line.debit_cents)
                    for line in changed.sent.lines
                )
                reversal = replace(changed.sent, key=f"{key}-R{revision}", lines=turned)
            replacement = None
            if changed.wanted_digest is not None:
                # The test's digests are "key:cents".
                frame = lines_of(entries((key, MONDAY, int(changed.wanted_digest.partition(":")[2]))))
                replacement = content_of(f"{key}-N{revision}", int(frame.debit_cents.sum()))
            with self.engine.begin() as connection:
                self.ledger.correct(connection, changed, reversal=reversal, replacement=replacement)

    def send(self, end: str) -> None:
        for row in self.ledger.ready(limit=1):
            intent = self.ledger.begin(row.key, company_id=1, digest=row.digest)
            assert intent is not None
            if end != "lost on the way":
                self.remote.append(intent.content)
            if end == "answered":
                self.ledger.sent(row.key, len(self.remote), [])

    def recover(self) -> None:
        for intent in self.ledger.doubtful():
            self._resolve(intent)

    def _resolve(self, intent: Intent) -> None:
        if any(content.key == intent.row.key for content in self.remote):
            self.ledger.sent(intent.row.key, len(self.remote), [])
        else:
            self.ledger.back_to_ready(intent.row.key)

    def settle(self) -> None:
        """What the next nights do when nothing goes wrong any more."""
        for _ in range(20):
            self.recover()
            self.build(self.wanted)
            self.correct()
            if not self.ledger.ready():
                return
            while self.ledger.ready():
                self.send("answered")
        raise AssertionError("it never comes to rest")

    def net(self, key: str) -> int:
        """What PennyLane's 411000 says of an entry and its corrections."""
        return sum(
            line.debit_cents - line.credit_cents
            for content in self.remote
            if content.key.partition("-")[0] == key
            for line in content.lines
            if line.account == "411000"
        )


def content_of(key: str, cents: int) -> Content:
    """An entry as a build makes it, under another key."""
    frame = lines_of(entries((key, MONDAY, cents)))
    lines = [
        {
            name: None if value is None or value != value else value
            for name, value in line.items()
            if name != "entry_key"
        }
        for line in frame.astype(object).to_dict("records")
    ]
    header = {"key": key, "kind": "sale", "register_id": "K1", "journal": "K1", "label": "Ventes"}
    return Content.from_json({**header, "business_day": MONDAY.isoformat(), "date": MONDAY.isoformat(), "lines": lines})


@settings(
    max_examples=int(os.environ.get("LEDGER_HISTORIES", "25")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    # A history is short and says what it does; to shrink one takes longer than the test may.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(happened=st.lists(steps, min_size=6, max_size=14))
def test_whatever_happens_pennylane_ends_with_what_the_books_say(engine: sa.Engine, happened: list[tuple]) -> None:
    history = History(engine, PublicationLedger(engine, f"shop{next(_shops)}"))
    for step, what in happened:
        getattr(history, step)(*([] if what is None else [what]))
    history.settle()
    for key in KEYS:
        assert history.net(key) == (history.wanted.get(key) or 0)
    keys = [content.key for content in history.remote]
    assert len(keys) == len(set(keys))
    # And it stays so: another night sends nothing.
    before = len(history.remote)
    history.settle()
    assert len(history.remote) == before
