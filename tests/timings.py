"""CPU seconds of the tests: how they are recorded, divide the tests into parts, and are held.

    make timings BACKEND=jax     runs every test, and writes the column of a backend in timings.tsv
    python tests/timings.py      holds the recorded figures against the budget; `make check` runs it

CPU seconds are those of a test's own process and of those that it waits for. They depend less than
the clock on what else the machine does, but they do (other work on both cores made them half as
many again): record them on a quiet machine. No test ever looks at a clock, and neither does the
check: it reads the file.
"""

import csv
import os
import sys
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
FILE = TESTS / "timings.tsv"
REASONS = TESTS / "timings_reasons.tsv"
BACKENDS = ("tensorflow", "jax", "torch")
LEAST = 0.5  # what takes less on each backend is not listed
MOST = 5.0  # of a test in `make test`; more needs a reason
MOST_REASONS = 20
# CPU seconds of all tests of `make test`; importing and collecting come on top
BUDGET = {"tensorflow": 950, "jax": 900, "torch": 450}


class Timing(NamedTuple):
    """A row of the file.

    Attributes:
        test: what pytest calls it: file, function and parameters.
        long: whether it belongs to `make test-all` alone.
        seconds: dict of backend -> CPU seconds.
    """

    test: str
    long: bool
    seconds: dict


def read():
    """`(timings, totals)`: the rows, and dict of backend -> CPU seconds of all of `make test`."""
    timings, totals = [], {}
    if FILE.exists():
        with open(FILE, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                seconds = {name: float(row[name]) for name in BACKENDS if row[name]}
                if row["test"] == "make test":
                    totals = seconds
                else:
                    timings.append(Timing(row["test"], row["run by"] == "test-all", seconds))
    return timings, totals


def write(timings, totals):
    """Writes the rows that take long enough, sorted, after one with the totals."""
    rows = [Timing("make test", False, totals)]
    rows += sorted(t for t in timings if max(t.seconds.values(), default=0) >= LEAST)
    with open(FILE, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow([*BACKENDS, "run by", "test"])
        for test, long, seconds in rows:
            numbers = (f"{seconds[name]:.1f}" if name in seconds else "" for name in BACKENDS)
            table.writerow([*numbers, "test-all" if long else "test", test])


def update(backend, seconds, long):
    """Takes over what a run of every test on a backend has measured.

    Args:
        backend: its name.
        seconds: dict of test -> CPU seconds.
        long: the tests that `make test` leaves out.
    """
    timings, totals = read()
    known = {t.test: t.seconds for t in timings}
    rows = []
    for test in known.keys() | seconds.keys():
        others = {name: s for name, s in known.get(test, {}).items() if name != backend}
        own = {backend: seconds[test]} if test in seconds else {}
        if others or own:
            rows.append(Timing(test, test in long, others | own))
    quick = sum(s for test, s in seconds.items() if test not in long)
    write(rows, totals | {backend: quick})


def part_of(tests, part, parts, backend):
    """The tests of one part of several that take about the same time.

    Args:
        tests: names of all tests.
        part: which one, from 1.
        parts: how many there are.
        backend: whose figures count.

    Returns:
        A set of names. Each test is in exactly one part, whatever the file knows of it.
    """
    known = {t.test: t.seconds for t in read()[0]}

    def cost(test):
        seconds = known.get(test, {})
        return seconds.get(backend, max(seconds.values(), default=0.1))

    loads, chosen = [0.0] * parts, set()
    for test in sorted(tests, key=lambda test: (-cost(test), test)):
        lightest = loads.index(min(loads))
        loads[lightest] += cost(test)
        if lightest == part - 1:
            chosen.add(test)
    return chosen


def problems():
    """What is wrong with the recorded figures: a list of sentences."""
    timings, totals = read()
    with open(REASONS, encoding="utf-8", newline="") as file:
        reasons = {row["test"]: row["reason"] for row in csv.DictReader(file, delimiter="\t")}
    found = []
    over = set()
    for test, long, seconds in timings:
        path, _, function = test.partition("::")
        source = TESTS.parent / path
        name = function.partition("[")[0]
        if not source.exists() or f"def {name}(" not in source.read_text(encoding="utf-8"):
            found.append(f"{FILE.name}: {test} is no longer a test. Run make timings.")
            continue
        test = test.partition("[")[0]
        for backend, value in seconds.items():
            if not long and value > MOST:
                over.add(test)
                if test not in reasons:
                    found.append(
                        f"{test}: takes {value} CPU seconds on {backend}; expected at most "
                        f"{MOST}. Make it cheaper, mark it long, or give the reason in "
                        f"{REASONS.name}."
                    )
    for test in reasons.keys() - over:
        found.append(f"{REASONS.name}: {test} takes no longer than others. Remove its line.")
    if len(reasons) > MOST_REASONS:
        found.append(f"{REASONS.name}: expected at most {MOST_REASONS} lines, got {len(reasons)}.")
    for backend, budget in BUDGET.items():
        if totals.get(backend, 0) > budget:
            found.append(
                f"make test BACKEND={backend}: takes {totals[backend]} CPU seconds; expected at "
                f"most {budget}. Mark tests long, or make them cheaper."
            )
    return sorted(found)


class Recorder:
    """A pytest plugin: measures each test where it runs, and writes the file where all is known."""

    def __init__(self, config, backend):
        self.config, self.backend = config, backend
        self.seconds, self.long = {}, set()
        self.before = _cpu_seconds()

    def pytest_runtest_logstart(self):
        self.before = _cpu_seconds()

    def pytest_runtest_makereport(self, item):
        """Three times a test: for what comes before it, the test, and what comes after it.

        As the last plugin it is called first, before the report copies the properties.
        """
        now = _cpu_seconds()
        measured = (now - self.before, item.get_closest_marker("long") is not None)
        item.user_properties.append(("cpu_seconds", measured))
        self.before = now

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":  # which has the properties of all three
            for name, value in report.user_properties:
                if name == "cpu_seconds":
                    seconds, long = value
                    self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + seconds
                    self.long |= {report.nodeid} if long else set()

    def pytest_sessionfinish(self):
        if not hasattr(self.config, "workerinput"):  # not in one of xdist's workers
            update(self.backend, self.seconds, self.long)


def _cpu_seconds():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    said = problems()
    print("\n".join(said) or f"{FILE.name}: every test is within its budget.")
    sys.exit(bool(said))
