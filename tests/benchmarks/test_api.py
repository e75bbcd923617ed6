"""The REST API of a whole control plane, with a host that obeys everything and starts nothing.

    ./pileus bench api                    the figures of this checkout
    ./pileus bench api --vs ../released   beside those of another one, round by round, with their ratios

Medians of interleaved rounds. On a machine that does other work the ratios are to be trusted, the figures are not; the
processor time that the control plane takes for each thing, with its database, depends less on what else is done.
"""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.benchmarks.control_planes import ControlPlane, at_once, control_plane
from tests.benchmarks.measuring import line
from tests.servers import TREE

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("PILEUS_BENCH_ROUNDS", "5"))
INSTANCES, CLIENTS, SINGLE, LISTS = 60, 8, 12, 20
REST_SECONDS = 10
TARGETS = {
    "launches/s to running": "≥ 40",
    "POST idle, p50 ms": "≤ 8",
    "POST with 8 clients, p50 ms": "≤ 80",
    "deletes/s": "≥ 45",
    "list of 50, p50 ms": "≤ 6",
    "idle memory, MiB PSS": "≤ 350",
}
CPU = {"launch": INSTANCES, "delete": INSTANCES, "list": LISTS}  # how many of each are measured in a round
MORE_IS_BETTER = {"launches/s to running", "deletes/s"}
Figures = dict[str, list[float]]


@pytest.fixture(scope="module")
def planes() -> Iterator[list[ControlPlane]]:
    trees = {"here": TREE}
    if other := os.environ.get("PILEUS_BENCH_VS"):
        trees["other"] = Path(other).resolve()
    with ExitStack() as stack:
        yield [
            stack.enter_context(control_plane(name, tree, number))
            for number, (name, tree) in enumerate(trees.items(), 1)
        ]


def test_the_api_beside_another_checkout(planes: list[ControlPlane]) -> None:
    figures: dict[str, Figures] = {plane.name: defaultdict(list) for plane in planes}
    for plane in planes:
        a_round(plane, "warm")  # what is made at the first use
    for number in range(ROUNDS):
        for plane in planes[:: 1 if number % 2 else -1]:
            for name, value in a_round(plane, f"r{number}").items():
                figures[plane.name][name].append(value)
    time.sleep(REST_SECONDS)
    for plane in planes:
        memory = plane.pss_mib()
        figures[plane.name]["idle memory, MiB PSS"].append(sum(memory.values()))
        for process, mib in memory.items():
            figures[plane.name][f"  {process}, MiB PSS"].append(mib)
    for name in figures["here"]:
        medians = {plane: statistics.median(of_plane[name]) for plane, of_plane in figures.items()}
        shown: dict[str, float | str] = dict(medians)
        if "other" in medians:
            times = medians["here"] / medians["other"] if medians["here"] and medians["other"] else 1
            shown["times_better"] = times if name in MORE_IS_BETTER else 1 / times
        line(name, **({"target": TARGETS[name]} if name in TARGETS else {}), **shown)


def a_round(plane: ControlPlane, name: str) -> dict[str, float]:
    """Every figure but memory, once. Nothing of it is left."""
    body = {"flavor": "tiny", "image": "tiny"}
    with plane.client() as api:

        def launch(instance: str) -> float:
            began = time.perf_counter()
            answer = api.post("/instances", json={"name": instance, **body})
            taken = (time.perf_counter() - began) * 1000
            assert answer.status_code == 202, answer.text
            return taken

        def delete(instance: str) -> None:
            answer = api.delete(f"/instances/{instance}?purge=true")
            assert answer.status_code == 202, answer.text

        def one_list() -> float:
            began = time.perf_counter()
            answer = api.get("/instances?limit=50")
            assert len(answer.json()["items"]) == 50
            return (time.perf_counter() - began) * 1000

        alone = []
        for number in range(SINGLE):
            alone.append(launch(f"{name}-one-{number}"))
            plane.settle()
        many = [f"{name}-many-{number}" for number in range(INSTANCES)]
        taken = [plane.cpu_seconds()]
        began = time.perf_counter()
        together = at_once(CLIENTS, launch, many)
        plane.settle()
        launched = time.perf_counter() - began
        assert plane.count("compute_machine WHERE seen = 'running'") == INSTANCES + SINGLE
        taken.append(plane.cpu_seconds())
        lists = [one_list() for _ in range(LISTS)]
        taken.append(plane.cpu_seconds())
        at_once(CLIENTS, delete, [f"{name}-one-{number}" for number in range(SINGLE)])
        plane.settle()
        taken.append(plane.cpu_seconds())
        began = time.perf_counter()
        at_once(CLIENTS, delete, many)
        plane.settle()
        deleted = time.perf_counter() - began
        taken.append(plane.cpu_seconds())
    assert plane.count("compute_instance") == 0
    return {
        "launches/s to running": INSTANCES / launched,
        "POST idle, p50 ms": statistics.median(alone),
        "POST with 8 clients, p50 ms": statistics.median(together),
        "deletes/s": INSTANCES / deleted,
        "list of 50, p50 ms": statistics.median(lists),
        **cpu("launch", *taken[0:2]),
        **cpu("list", *taken[1:3]),
        **cpu("delete", *taken[3:5]),
    }


def cpu(what: str, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Milliseconds of processor time for one of these: of all processes, and of each."""
    each = {name: (after[name] - before[name]) * 1000 / CPU[what] for name in after}
    return {f"CPU of a {what}, ms": sum(each.values())} | {f"  {what} in {name}, ms": ms for name, ms in each.items()}
