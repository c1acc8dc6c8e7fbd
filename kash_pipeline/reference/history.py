"""Versions of reference records: what a method, a rate, a register was on which day. Pure.

Only comparing a listing with the versions known so far and reading versions as of a day belongs here; where versions
are kept is store.py.

A listing tells what holds now, not since when: a version begins on the business day on which it was noticed, and what
the first listing of a table tells held before (`ALWAYS`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from typing import Literal

ALWAYS = date(1, 1, 1)
"""`valid_from` of what was there when a table was first read."""

Content = Mapping[str, str | int | bool | None]


@dataclass(frozen=True)
class Version:
    """A record from `valid_from` to the day before `valid_to` (None: it holds now); see `as_of` for one that is gone.

    `noticed_at`: when it was written, or that it no longer held.
    """

    record_id: str
    valid_from: date
    valid_to: date | None
    content: Content
    noticed_at: datetime | None = field(default=None, compare=False)


def noticed(known: Iterable[Version], listing: Mapping[str, Content], day: date) -> list[Version]:
    """The versions to write (new ones and changed ones, by record and `valid_from`) once `listing` was read on `day`.

    A record that changes gets a new version, one that is gone is closed, one that comes back is opened again; a change
    within the day it was noticed on takes the place of that day's version. The same listing twice writes nothing.
    """
    first_listing = True
    latest: dict[str, Version] = {}
    for version in known:
        first_listing = False
        before = latest.get(version.record_id)
        if before is None or version.valid_from > before.valid_from:
            latest[version.record_id] = version
    written: list[Version] = []
    for record_id, content in listing.items():
        last = latest.get(record_id)
        if last is None:
            written.append(Version(record_id, ALWAYS if first_listing else day, None, content))
            continue
        same = dict(last.content) == dict(content)
        if last.valid_to is None:
            if same:
                continue
            if last.valid_from < day:
                written.append(replace(last, valid_to=day))
            written.append(Version(record_id, max(day, last.valid_from), None, content))
        elif same and last.valid_to >= day:
            # Gone and back within a day: the listing was short, nobody deleted anything.
            written.append(replace(last, valid_to=None))
        else:
            written.append(Version(record_id, max(day, last.valid_from), None, content))
    for record_id, last in latest.items():
        if record_id not in listing and last.valid_to is None:
            written.append(replace(last, valid_to=max(day, last.valid_from)))
    return written


def by_record(versions: Iterable[Version]) -> dict[str, list[Version]]:
    """Versions of each record, oldest first."""
    found: dict[str, list[Version]] = {}
    for version in sorted(versions, key=lambda item: (item.record_id, item.valid_from)):
        found.setdefault(version.record_id, []).append(version)
    return found


def as_of(versions: Iterable[Version], day: date) -> dict[str, Content]:
    """The records of a business day, by id.

    A record first noticed later is as it was first noticed (the till sold with it before we looked again); one that
    was away between two versions is as before; one that is gone for good is still there on the day on which that was
    noticed (the till sold with it until then), and no longer from the day after.
    """
    found: dict[str, Content] = {}
    for record_id, own in by_record(versions).items():
        begun = [version for version in own if version.valid_from <= day]
        if not begun:
            found[record_id] = own[0].content
            continue
        version = begun[-1]
        if version.valid_to is None or day <= version.valid_to or version is not own[-1]:
            found[record_id] = version.content
    return found


def mended(versions: Sequence[Version], day: date, is_usable: Callable[[str, object], bool]) -> dict[str, Content]:
    """The records of a business day as in `as_of`, each field that is of no use as it first was of use later.

    `is_usable(field, value)`. A field that never was stays as it is.
    """
    found = as_of(versions, day)
    for record_id, own in by_record(versions).items():
        content = found.get(record_id)
        if content is None:
            continue
        later = [version.content for version in own if version.valid_from > day]
        better = {
            name: next(item[name] for item in later if is_usable(name, item.get(name)))
            for name, value in content.items()
            if not is_usable(name, value) and any(is_usable(name, item.get(name)) for item in later)
        }
        found[record_id] = {**content, **better}
    return found


def change_days(versions: Iterable[Version], first: date, last: date) -> list[date]:
    """Days after `first`, up to `last`, on which the records are not those of the day before."""
    marks = set()
    for own in by_record(versions).values():
        marks |= {version.valid_from for version in own}
        if (gone := own[-1].valid_to) is not None:
            marks.add(date.fromordinal(gone.toordinal() + 1))
    return sorted(mark for mark in marks if first < mark <= last)


What = Literal["new", "changed", "gone", "back", "made again"]


@dataclass(frozen=True)
class Change:
    """What became of a record on `day`; `before` and `after` hold the fields that differ, all for new and gone.

    `content`: all fields as they are, of one that is gone as they were: its name may be none of what differs.
    `noticed_at`: when it was noticed that `before` no longer held.
    """

    day: date
    record_id: str
    what: What
    before: Content
    after: Content
    other_id: str | None = None
    content: Content = field(default_factory=dict, compare=False)
    noticed_at: datetime | None = field(default=None, compare=False)


def changes(
    versions: Iterable[Version],
    since: date,
    *,
    identity: Collection[str] = (),
) -> list[Change]:
    """What happened from `since` on, oldest first.

    `identity`: fields that name a thing whatever its id (a journal's code, a method's name). A record that disappeared
    while another with the same identity appeared was deleted and made again: one change with both ids, since whatever
    keeps the old id now points to nothing.
    """
    found: list[Change] = []
    for record_id, own in by_record(versions).items():
        for place, version in enumerate(own):
            before = own[place - 1] if place else None
            if version.valid_from >= since and version.valid_from != ALWAYS:
                change = partial(Change, version.valid_from, record_id, content=version.content)
                if before is None:
                    found.append(change("new", {}, version.content))
                else:
                    was, now = differing(before.content, version.content)
                    gap = before.valid_to is not None and before.valid_to < version.valid_from
                    if gap or now or was:
                        found.append(change("back" if gap else "changed", was, now, noticed_at=before.noticed_at))
            following = own[place + 1] if place + 1 < len(own) else None
            if (
                version.valid_to is not None
                and version.valid_to >= since
                and (following is None or following.valid_from > version.valid_to)
            ):
                gone = partial(Change, version.valid_to, record_id, content=version.content)
                found.append(gone("gone", version.content, {}, noticed_at=version.noticed_at))
    return sorted(_made_again(found, identity), key=lambda change: (change.day, change.record_id, change.what))


def differing(before: Content, after: Content) -> tuple[Content, Content]:
    """The fields that differ, as they were and as they are."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


def _made_again(found: Sequence[Change], identity: Collection[str]) -> list[Change]:
    if not identity:
        return list(found)

    def of(content: Content) -> tuple[object, ...]:
        return tuple(content.get(name) for name in identity)

    nothing = (None,) * len(identity)
    gone = {of(change.before): change for change in found if change.what == "gone" and of(change.before) != nothing}
    rest: list[Change] = []
    replaced: set[str] = set()
    for change in found:
        old = gone.get(of(change.after)) if change.what == "new" else None
        if old is None:
            rest.append(change)
            continue
        was, now = differing(old.before, change.after)
        rest.append(
            replace(change, what="made again", before=was, after=now, other_id=old.record_id, noticed_at=old.noticed_at)
        )
        replaced.add(old.record_id)
    return [change for change in rest if not (change.what == "gone" and change.record_id in replaced)]
