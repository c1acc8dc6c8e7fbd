"""A customer's orders and payments are lettered when they come to zero, once, and never against a person."""

from collections.abc import Callable

import pytest

from kash_pipeline.pennylane.lettering import OpenLine, days_to_letter, groups_of
from kash_pipeline_tests.unit.pennylane.test_customers import customers
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books

LEA = customers({"customer_id": "7", "name": "Chez Léa"})
DAYS = days_from(FIRST, 2)


def lines(*amounts: int, customer: str = "7") -> list[OpenLine]:
    return [OpenLine(customer, f"K{number}", number, amount, FIRST) for number, amount in enumerate(amounts)]


@pytest.mark.parametrize(
    ("amounts", "groups"),
    [
        ((100, -100), [[100, -100]]),
        ((100, 50, -150), [[100, 50, -150]]),
        ((100, -40, -60, 30), [[100, -40, -60]]),
        ((100, -100, 30, -30), [[100, -100], [30, -30]]),
        ((100, -60), []),
        ((-100, 100), [[-100, 100]]),
        ((), []),
    ],
)
def test_lines_belong_together_up_to_each_balance_of_zero(amounts: tuple[int, ...], groups: list[list[int]]) -> None:
    assert [[line.amount_cents for line in group] for group in groups_of(lines(*amounts))] == groups


def test_two_customers_are_never_lettered_together() -> None:
    assert groups_of([*lines(100), *lines(-100, customer="8")]) == []


@pytest.fixture
def here(make_pennylane: Callable[..., World]) -> World:
    return make_pennylane(letter=True)


def lettered(world: World) -> set[frozenset[int]]:
    groups: dict[int, set[int]] = {}
    for entry in world.sandbox.admin.entries():
        for line in entry.lines:
            if line.lettering is not None:
                groups.setdefault(line.lettering, set()).add(line.id)
    return {frozenset(group) for group in groups.values()}


def own_lines(world: World) -> list[int]:
    return [
        line.id for entry in world.sandbox.admin.entries() for line in entry.lines if line.account.startswith("411")
    ]


def test_orders_and_payments_of_a_customer_are_lettered_and_a_rerun_asks_nothing(here: World) -> None:
    here.book(DAYS, make_books(DAYS, registers=["K1"], customer="7"))
    report = here.publish(customers=LEA)
    assert (report.problems, report.lettering.groups, report.lettering.lines) == ([], 2, 4)
    assert set().union(*lettered(here)) == set(own_lines(here))
    here.sandbox.requests.clear()
    assert here.publish(customers=LEA).nothing_to_do
    assert here.sandbox.requests.all() == []


def test_what_a_killed_publisher_left_unlettered_is_lettered_by_the_next_though_nothing_is_to_be_sent(
    here: World, make_pennylane: Callable[..., World]
) -> None:
    killed = make_pennylane(letter=False)  # as one that ended between reading back and lettering
    killed.book(DAYS, make_books(DAYS, registers=["K1"], customer="7"))
    killed.publish(customers=LEA)
    assert lettered(here) == set()
    assert days_to_letter(killed.engine, killed.shop) == []  # that shop does not letter
    assert [day.business_day for day in days_to_letter(here.engine, here.shop)] == DAYS
    report = here.publish()
    assert (report.posted, report.lettering.groups) == (0, 2)
    assert days_to_letter(here.engine, here.shop) == []
    assert set().union(*lettered(here)) == set(own_lines(here))
    assert here.publish().nothing_to_do


def test_what_was_being_lettered_when_the_publisher_was_killed_is_lettered_with_the_same_lines(here: World) -> None:
    """Facts changed since: other groups of these lines come to zero, but joined with PennyLane's they do not."""
    here.book(DAYS, make_books(DAYS, registers=["K1", "K2"], customer="7"))
    here.publish(customers=LEA)
    nothing_of_k2 = make_books(DAYS, registers=["K1"], customer="7")
    here.book(DAYS, nothing_of_k2)
    here.publish(customers=LEA)
    with here.engine.begin() as connection:  # killed between PennyLane's answer and our record of it
        connection.exec_driver_sql("update kash.pennylane_lettered set why = 'asked' where key like '%%-R1'")
    here.book(DAYS, make_books(DAYS, registers=["K1", "K2"], customer="7"))
    assert here.publish(customers=LEA).lettering.left == []
    assert set().union(*lettered(here)) == set(own_lines(here))
    assert here.publish().nothing_to_do


def test_what_was_corrected_before_it_was_read_back_is_lettered_too(
    here: World, make_pennylane: Callable[..., World]
) -> None:
    """Nobody reads back what no longer stands; its lines would have stayed open, and so what takes them back."""
    killed = make_pennylane(letter=False)
    killed.book(DAYS, make_books(DAYS, registers=["K1"], customer="7"))
    killed.publish(customers=LEA)
    with here.engine.begin() as connection:  # killed between PennyLane's answers and reading back
        connection.exec_driver_sql("update kash.publication set state = 'sent', verified_at = null")
    here.book(DAYS, make_books(DAYS, registers=["K1"], customer="7", salt="late"))
    report = here.publish(customers=LEA)
    assert (report.problems, len(report.corrections)) == ([], 6)
    assert set().union(*lettered(here)) == set(own_lines(here))


def test_what_a_person_lettered_is_left_and_told(here: World, make_pennylane: Callable[..., World]) -> None:
    unlettered = make_pennylane(letter=False)
    unlettered.book(DAYS, make_books(DAYS, registers=["K1"], customer="7"))
    unlettered.publish(customers=LEA)
    sold = [
        line.id
        for entry in here.sandbox.admin.entries()
        for line in entry.lines
        if line.account.startswith("411") and line.debit_cents
    ]
    here.sandbox.admin.letter(sold)  # both sales together: not as amounts would have it
    before = lettered(here)
    later = days_from(DAYS[-1], 2)[1:]
    here.book(later, make_books(later, registers=["K2"]))
    report = here.publish(customers=LEA)
    assert lettered(here) == before
    assert [customer for customer, _ in report.lettering.left] == ["7", "7"]
    assert here.publish(customers=LEA).nothing_to_do
