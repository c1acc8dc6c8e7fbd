"""Kill the publisher, cut its connections, refuse its tokens, at random moments; then compare the two ledgers.

Each round books two new days, some with named customers or with Z evidence, or one and changes what an earlier round
published; publishes that in a process that is killed or hurt, sometimes changes facts again, and lets a healthy process
finish. Then every piece number must be in PennyLane once, what stands under a key with its corrections must come to
what the entry tables say of it now, and every line of a customer must be lettered with lines it comes to zero with. At
the end each closing entry of a day with Z evidence must carry one file, its own, and no other entry any.
`KASH_CHAOS_ROUNDS` says how many rounds (40 in `make test`), `KASH_CHAOS_SEED` from which seed.
"""

import multiprocessing
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from multiprocessing.process import BaseProcess
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.pennylane.auth import OneToken
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.pennylane.publisher import reconsider
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline.web.connect import connect_sandbox
from kash_pipeline_tests.end_to_end import attaching, chaos
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane
from kash_pipeline_tests.unit.pennylane.world import Books, World, days_from, make_books

__all__ = ["make_pennylane"]  # a fixture
ROUNDS = int(os.environ.get("KASH_CHAOS_ROUNDS", "40"))
SEED = int(os.environ.get("KASH_CHAOS_SEED", "20261124"))
# What the ledger appends to a key for a reversal and for the entry that stands instead.
CORRECTION = re.compile(r"-[RN]\d+$")
# A healthy publication of a round takes about half a second once its process runs.
LONGEST_LIFE = 0.6

POST = {"method": "POST", "path": "ledger_entries$"}
HURTS: dict[str, Callable[[random.Random], list[Fault]]] = {
    "killed": lambda _: [],
    "killed while PennyLane is slow": lambda at: [Fault("delay", **POST, count=4, seconds=at.uniform(0.05, 0.4))],
    "answers cut after the effect": lambda at: [Fault("cut_after", **POST, skip=at.randrange(8), count=3)],
    "connections cut before the effect": lambda at: [Fault("cut_before", skip=at.randrange(10), count=3)],
    "500 after the commit": lambda at: [Fault("error_after", **POST, skip=at.randrange(8), count=3)],
    "429 storm": lambda at: [Fault("rate_limit", skip=at.randrange(10), count=2, seconds=1)],
    "token expired in mid-batch": lambda at: [Fault("expire_token", skip=at.randrange(12))],
    "killed around a refresh": lambda _: [Fault("expire_token"), Fault("delay_answer", path="/token", seconds=0.2)],
    "database connections dropped": lambda _: [],
    "two publishers at once": lambda _: [],
    "entries refused": lambda at: [Fault("refuse", **POST, skip=at.randrange(8), count=2, status=422)],
    "uploads cut after the effect": lambda at: [
        Fault("cut_after", "POST", "file_attachments$", count=at.randrange(1, 4))
    ],
}
KILLS = ("killed", "killed while PennyLane is slow", "killed around a refresh", "two publishers at once")


@dataclass
class Tally:
    """What a run of rounds counted."""

    rounds: int = 0
    kills: int = 0
    entries: int = 0
    changes: int = 0
    corrections: int = 0
    lettered: int = 0
    attached: int = 0
    struck: int = 0
    reconnected: int = 0
    duplicates: int = 0
    losses: int = 0
    hurts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        hurts = ", ".join(f"{name} {count}" for name, count in sorted(self.hurts.items()))
        return (
            f"rounds {self.rounds}, entries {self.entries}, days changed {self.changes}, corrections"
            f" {self.corrections}, lines lettered {self.lettered}, files {self.attached}, processes killed"
            f" {self.kills}, faults that struck {self.struck}, connected again {self.reconnected}, duplicates"
            f" {self.duplicates}, losses {self.losses} ({hurts})"
        )


class Chaos:
    """The processes of the rounds, forked from one that has imported everything."""

    def __init__(self, here: World, database_url: str) -> None:
        self.here = here
        self.database_url = database_url
        self.tally = Tally()
        self._auditor = OneToken(here.sandbox.admin.company_token())
        self._customers: dict[date, str | None] = {}
        self.with_evidence: set[date] = set()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([chaos.__name__])

    def book(self, days: list[date], at: random.Random, *, evidence: bool) -> None:
        """New days, with the facts of which Z evidence is made; or of some, everything is bought and paid by one named
        customer."""
        for day in days:
            if evidence:
                self.with_evidence.add(day)
                attaching.book(self.here, [day], attaching.till([day]))
                continue
            self._customers[day] = at.choice([None, None, *chaos.NAMED])
            self.here.book([day], make_books([day], customer=self._customers[day]))

    def change(self, day: date, at: random.Random) -> None:
        """Other facts of a booked day: other amounts of one register; the other is as it was, or gone, or back."""
        self.tally.changes += 1
        if day in self.with_evidence:
            attaching.book(self.here, [day], attaching.till([day], wine=1200 + 6 * self.tally.changes))
            return
        customer = self._customers[day]
        parts = [make_books([day], registers=["K1"], salt=str(self.tally.changes), customer=customer)]
        if at.random() < 0.7:
            parts.append(make_books([day], registers=["K2"], customer=customer))
        joined = (
            pd.concat([getattr(part, name) for part in parts], ignore_index=True) for name in ("entries", "lines")
        )
        self.here.book([day], Books(*joined))

    def start(self, days: list[date], name: str) -> BaseProcess:
        """A publisher of these days, which has begun when this returns."""
        url = sa.make_url(self.database_url).update_query_dict({"application_name": name})
        started = self._context.Event()
        process = self._context.Process(
            target=chaos.publish,
            args=(
                self.here.url,
                url.render_as_string(hide_password=False),
                str(self.here.env.home),
                days[0],
                days[-1],
                self.with_evidence >= set(days),
                started,
            ),
        )
        process.start()
        assert started.wait(120), f"the process of {name} did not begin, exit code {process.exitcode}"
        return process

    def hurt(self, number: int, days: list[date], at: random.Random) -> str:
        """One bad run."""
        kind = at.choice(list(HURTS))
        self.tally.hurts[kind] += 1
        faults = self.here.sandbox.faults
        struck = len(faults.hits())
        for fault in HURTS[kind](at):
            faults.add(fault)
        name = f"chaos-{number}"
        processes = [self.start(days, name) for _ in range(2 if kind == "two publishers at once" else 1)]
        if kind in KILLS:
            time.sleep(at.uniform(0, LONGEST_LIFE))  # the random moment
            if processes[0].is_alive():
                processes[0].kill()
                self.tally.kills += 1
        if kind == "database connections dropped":
            time.sleep(at.uniform(0, LONGEST_LIFE))
            with self.here.engine.connect() as connection:
                connection.execute(
                    sa.text("select pg_terminate_backend(pid) from pg_stat_activity where application_name = :name"),
                    {"name": name},
                )
        for process in processes:
            process.join(60)
            assert process.exitcode != 1, f"round {number} ({kind}): an unforeseen error, see the traceback above"
        faults.clear()
        self.tally.struck += len(faults.hits()) - struck
        return kind

    def heal(self, number: int, days: list[date]) -> None:
        """A healthy run, after a person consented again if need be, and let what was refused be sent again."""
        reconsider(self.here.engine, self.here.shop, days[0], days[-1])
        for _ in range(3):
            process = self.start(days, f"healthy-{number}")
            process.join(60)
            if process.exitcode == chaos.DONE:
                return
            if process.exitcode == chaos.CONNECT_AGAIN:
                connect_sandbox(self.here.shop, self.here.engine, self.here.env)
                self.tally.reconnected += 1
        pytest.fail(f"round {number}: three healthy runs did not finish, the last with exit code {process.exitcode}")

    def count(self, number: int, kind: str, days: list[date]) -> None:
        """PennyLane and the entry tables agree on these days, each entry by itself."""
        where = f"round {number} ({kind}), seed {SEED}"
        with PennylaneClient(self.here.url, self._auditor, NoPacing()) as client:
            journals = [journal.id for journal in client.journals()]
            pieces = {entry.id: str(entry.piece_number) for entry in client.ledger_entries(journals, days[0], days[-1])}
            lines = list(client.ledger_entry_lines(journals, days[0], days[-1]))
        found = Counter(pieces.values())
        wanted = self._balances(days)
        held: dict[str, Counter[str]] = {}
        for line in lines:
            account = "411" if line.account.startswith("411") else line.account
            base = CORRECTION.sub("", pieces[line.entry_id])
            held.setdefault(base, Counter())[account] += int((line.debit - line.credit) * 100)
        self.tally.duplicates += sum(count - 1 for count in found.values())
        self.tally.losses += len(wanted.keys() - found.keys())
        assert max(found.values()) == 1, where
        assert {base: net for base, sums in held.items() if (net := without_zeros(sums))} == wanted, where
        open_lines = [line for line in lines if line.account.startswith("411") and not line.lettered_with]
        assert open_lines == [], where
        self.tally.rounds += 1
        self.tally.entries += len(wanted)
        self.tally.corrections += len(found) - len(held)
        self.tally.lettered += sum(bool(line.lettered_with) for line in lines)

    def count_files(self) -> None:
        """Every closing entry of a day with Z evidence has a file of its own, and no other entry has one."""
        with self.here.engine.connect() as connection:
            due = set(
                connection.execute(
                    sa.text(
                        "select key from kash.publication where kind = 'closing' and role <> 'reversal'"
                        " and business_day = any(:days)"
                    ),
                    {"days": sorted(self.with_evidence)},
                ).scalars()
            )
        names = {file.id: file.filename for file in self.here.sandbox.admin.files()}
        carried = [
            (entry.piece_number, entry.file_id)
            for entry in self.here.sandbox.admin.entries()
            if entry.file_id is not None
        ]
        self.tally.attached = len(carried)
        assert {piece for piece, _ in carried} == due
        assert [names[file] for _, file in carried] == [f"{piece}.pdf" for piece, _ in carried]
        assert len({file for _, file in carried}) == len(carried)

    def _balances(self, days: list[date]) -> dict[str, Counter[str]]:
        """Debit minus credit in cents, per entry key and account, as the entry tables have them."""
        query = sa.text(
            "select entry_key, l.account, sum(l.debit_cents - l.credit_cents)::bigint from kash.entries e"
            " join kash.entry_lines l using (shop_id, entry_key)"
            " where e.business_day between :first and :last group by 1, 2"
        )
        sums: dict[str, Counter[str]] = {}
        with self.here.engine.connect() as connection:
            for key, account, cents in connection.execute(query, {"first": days[0], "last": days[-1]}):
                sums.setdefault(key, Counter())[account] = cents
        return {key: without_zeros(of) for key, of in sums.items()}


def without_zeros(sums: Counter[str]) -> Counter[str]:
    return Counter({account: cents for account, cents in sums.items() if cents})


@pytest.mark.timeout(0)
@pytest.mark.long
def test_after_any_kill_or_fault_each_entry_stands_in_pennylane_exactly_once(
    make_pennylane: Callable[..., World], database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here: Any = make_pennylane(**chaos.SHOP, attach_z=True)
    connect_sandbox(here.shop, here.engine, here.env)
    rounds = Chaos(here, database_url)
    calendar = days_from(date(2020, 1, 1), 2 * ROUNDS)
    booked = 0
    for number in range(ROUNDS):
        at = random.Random(SEED + number)
        changes = bool(booked) and at.random() < 0.5
        days = calendar[booked - changes : booked + 2 - changes]
        booked += 2 - changes
        evidence = days[0] in rounds.with_evidence if changes else at.random() < 0.3
        rounds.book(days[changes:], at, evidence=evidence)
        if changes:
            rounds.change(days[0], at)
        kind = rounds.hurt(number, days, at)
        if at.random() < 0.2:
            rounds.change(at.choice(days), at)
        rounds.heal(number, days)
        rounds.count(number, kind, days)
        if number % 100 == 99:
            with capsys.disabled():
                print(f"\n{rounds.tally}", flush=True)
    rounds.count_files()
    with capsys.disabled():
        print(f"\n{rounds.tally}")
    assert set(here.states()) == {"verified", "superseded"}
    assert (rounds.tally.duplicates, rounds.tally.losses) == (0, 0)
    assert rounds.tally.kills >= ROUNDS // 10
    assert rounds.tally.corrections >= ROUNDS
    assert rounds.tally.lettered >= ROUNDS
    assert rounds.tally.attached >= ROUNDS
