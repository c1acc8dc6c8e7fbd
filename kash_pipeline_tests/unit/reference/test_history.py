"""Versions of reference records: nothing is lost, an old day keeps what it had, what was made again is noticed."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kash_pipeline.reference.history import ALWAYS, Content, Version, as_of, change_days, changes, mended, noticed

D1, D2, D3, D4 = (date(2026, 3, day) for day in (1, 10, 20, 30))
CB: Content = {"name": "CB", "kind": "card"}
CARD: Content = {"name": "Carte", "kind": "card"}


def history(*listings: tuple[date, dict[str, Content]]) -> list[Version]:
    """The versions after these listings, one after the other."""
    known: dict[tuple[str, date], Version] = {}
    for day, listing in listings:
        for version in noticed(list(known.values()), listing, day):
            known[version.record_id, version.valid_from] = version
    return list(known.values())


def test_what_the_first_listing_tells_held_before_and_a_renaming_does_not_reach_back() -> None:
    found = history((D2, {"2": CB}), (D3, {"2": CARD}))
    assert as_of(found, D1) == {"2": CB}
    assert as_of(found, date(2026, 3, 19)) == {"2": CB}
    assert as_of(found, D3) == as_of(found, D4) == {"2": CARD}
    assert change_days(found, D1, D4) == [D3]


def test_what_is_gone_is_closed_and_still_known_on_its_days() -> None:
    found = history((D1, {"2": CB}), (D3, {}))
    assert found == [Version("2", ALWAYS, D3, CB)]
    # The till sold with it in the morning of the day on which it was noticed to be gone.
    assert as_of(found, D2) == as_of(found, D3) == {"2": CB}
    assert as_of(found, date(2026, 3, 21)) == {}
    assert change_days(found, D1, D4) == [date(2026, 3, 21)]


def test_a_record_noticed_late_was_there_when_the_till_used_it() -> None:
    found = history((D1, {"2": CB}), (D3, {"2": CB, "7": CARD}))
    assert as_of(found, D2) == {"2": CB, "7": CARD}


def test_a_short_listing_holds_no_days_once_the_record_is_back() -> None:
    found = history((D1, {"2": CB}), (D2, {}), (D3, {"2": CB}))
    assert as_of(found, date(2026, 3, 15)) == {"2": CB}
    assert [change.what for change in changes(found, D1)] == ["gone", "back"]


def test_a_record_made_again_under_another_id_is_one_change_with_both_ids() -> None:
    found = history((D1, {"2": CB, "3": CARD}), (D3, {"3": CARD, "9": CB}))
    [change] = changes(found, D1, identity=("name", "kind"))
    assert (change.what, change.record_id, change.other_id, change.day) == ("made again", "9", "2", D3)


def test_an_id_made_again_as_something_else_is_a_change_of_its_fields() -> None:
    found = history((D1, {"2": CB}), (D2, {}), (D3, {"2": {"name": "Chèque", "kind": "cheque"}}))
    assert [(change.what, change.before, change.after) for change in changes(found, D1)] == [
        ("gone", CB, {}),
        ("back", CB, {"name": "Chèque", "kind": "cheque"}),
    ]
    assert as_of(found, D2) == {"2": CB}


listings = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([CB, CARD, {"name": "X", "kind": "other"}])), max_size=6
)


@given(listings, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_the_last_listing_holds_on_its_day_and_reading_it_again_changes_nothing(
    seen: list[dict[str, Content]], steps: list[int]
) -> None:
    day = D1
    dated = []
    for listing, step in zip(seen, steps, strict=False):
        day += timedelta(days=step)
        dated.append((day, listing))
    found = history(*dated)
    if dated:
        listing = dated[-1][1]
        gone = {version.record_id for version in found if version.valid_to == day} - listing.keys()
        on_the_day = as_of(found, day)
        assert {**on_the_day, **listing} == on_the_day
        assert on_the_day.keys() == listing.keys() | gone
        assert as_of(found, day + timedelta(days=1)) == listing
        assert noticed(found, dated[-1][1], day + timedelta(days=1)) == []
    open_ones = [version.record_id for version in found if version.valid_to is None]
    assert len(open_ones) == len(set(open_ones))


@given(listings)
def test_days_of_the_past_stay_as_they_were_while_later_listings_come(seen: list[dict[str, Content]]) -> None:
    """What a day was built with is what it is built with again, except for records that were not known then."""
    dated = [(D1 + timedelta(days=number), listing) for number, listing in enumerate(seen)]
    for count in range(1, len(dated)):
        day, listing = dated[count - 1]
        later = as_of(history(*dated), day)
        for record_id, content in listing.items():
            assert later[record_id] == content


def told(dated: list[tuple[date, dict[str, Content]]], day: date) -> dict[str, Content]:
    """What listings of different days say of a day, by reading them: the last one until then; a record that it lacks
    is as last seen if it comes back or was there in the listing before one of that very day, and as first seen if
    nobody had looked yet."""
    found = {}
    for record in {record for _, listing in dated for record in listing}:
        before = [listing.get(record) for at, listing in dated if at <= day]
        after = [listing[record] for at, listing in dated if at > day and record in listing]
        seen = [content for content in before if content is not None]
        gone_today = any(at == day for at, _ in dated) and before[-2:-1] not in ([], [None])
        if before and before[-1] is not None:
            found[record] = before[-1]
        elif gone_today:
            found[record] = seen[-1]
        elif after:
            found[record] = seen[-1] if seen else after[0]
    return found


@given(listings, st.lists(st.integers(1, 3), min_size=6, max_size=6), st.integers(-2, 20))
def test_whatever_was_listed_each_day_is_as_the_listings_tell_it(
    seen: list[dict[str, Content]], steps: list[int], offset: int
) -> None:
    days = [D1 + timedelta(days=sum(steps[:place])) for place in range(len(seen))]
    dated = list(zip(days, seen, strict=True))
    found = history(*dated)
    day = D1 + timedelta(days=offset)
    assert as_of(found, day) == told(dated, day)
    if day not in change_days(found, D1 - timedelta(days=9), D1 + timedelta(days=30)):
        assert as_of(found, day) == as_of(found, day - timedelta(days=1))


@given(listings, st.integers(0, 6))
def test_a_mended_field_is_the_first_later_one_of_use_and_no_other_field_moves(
    seen: list[dict[str, Content]], place: int
) -> None:
    dated = [(D1 + timedelta(days=number), listing) for number, listing in enumerate(seen)]
    found = history(*dated)
    day = D1 + timedelta(days=place)

    def is_usable(field: str, value: object) -> bool:
        return field != "name" or value != "X"

    plain = as_of(found, day)
    for record, content in mended(found, day, is_usable).items():
        assert content["kind"] == plain[record]["kind"]
        later = [listing[record]["name"] for at, listing in dated if at > day and record in listing]
        useful = [name for name in later if name != "X"]
        expected = plain[record]["name"] if plain[record]["name"] != "X" or not useful else useful[0]
        assert content["name"] == expected
