"""Times by a crontab's five fields, in a time zone: minute, hour, day of the month, month, day of the week."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab_parser

MAX_DAYS_AHEAD = 366 * 8  # 29 February comes again within that
FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")


class NoSchedule(ValueError):
    """Words about what is wrong with a schedule."""


@dataclass(frozen=True)
class Schedule:
    """What the fields allow. As cron has it, a day fits by either of its two fields where both say something."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0: Sunday
    by_either: bool

    def fits(self, day: date) -> bool:
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (by_day or by_weekday if self.by_either else by_day and by_weekday)

    def times(self, first: date, zone: ZoneInfo) -> Iterator[datetime]:
        """From the beginning of a day on, in UTC. One that a change of the clock skips is an hour later; one that comes
        twice is the first."""
        for ahead in range(MAX_DAYS_AHEAD):
            day = first + timedelta(days=ahead)
            if self.fits(day):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                        yield local.astimezone(UTC)


def parse(text: str) -> Schedule:
    """Raises NoSchedule."""
    fields = text.split()
    if len(fields) != len(FIELDS):
        raise NoSchedule("A schedule has five fields, as in a crontab: minute, hour, day, month and weekday.")
    parsers = (crontab_parser(60), crontab_parser(24), crontab_parser(31, 1), crontab_parser(12, 1), crontab_parser(8))
    sets = []
    for words, field, parser in zip(FIELDS, fields, parsers, strict=True):
        try:
            sets.append(frozenset(parser.parse(field)))
        except (ParseException, ValueError, IndexError) as problem:
            raise NoSchedule(f"{field} is no {words}: {problem}.") from problem
    if len(sets[0]) != 1:
        raise NoSchedule("The first field is one minute, such as 0: a volume is backed up hourly at most.")
    by_either = not fields[2].startswith("*") and not fields[4].startswith("*")
    minutes, hours, days, months, weekdays = sets
    weekdays = frozenset(day % 7 for day in weekdays)  # 7 is a Sunday, too
    return Schedule(minutes, hours, days, months, weekdays, by_either)


def next_after(text: str, zone: str, moment: datetime) -> datetime | None:
    """The first time after a moment, in UTC; None: never. Raises NoSchedule."""
    where = ZoneInfo(zone)
    times = parse(text).times(moment.astimezone(where).date(), where)
    return next((time for time in times if time > moment), None)
