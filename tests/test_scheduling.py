"""Which worker gets which tests, and when."""

from types import SimpleNamespace

import pytest

from tests.scheduling import InGroups, _heavy_tests, missing_paths, tell_heavy

CLOUDS = [f"tests/end_to_end/test_{name}.py::test_it" for name in ("faults", "lifecycle")]
GUESTS = [f"tests/compute/agent/test_qemu.py::test_{number}" for number in range(4)]
LIGHT = [f"tests/test_words.py::test_{number}" for number in range(9)]


class Worker:
    """What the scheduler sees of one."""

    shutting_down = False

    def __init__(self, run: str) -> None:
        self.workerinput = {"testrunuid": run}
        self.gateway = SimpleNamespace(id=run)
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


class Run:
    """One of all these tests with some workers, which do theirs in turn."""

    def __init__(self, workers: int, heavy: list[str], light: list[str]) -> None:
        self.tests, self.heavy = [*light, *heavy], set(heavy)
        self.workers = [Worker("of-a-test-of-the-scheduler") for _ in range(workers)]
        config = SimpleNamespace(
            getvalue=lambda name: [f"{workers}*popen"], option=SimpleNamespace(loadscopereorder=True)
        )
        self.scheduler = InGroups(config)
        _heavy_tests(self.workers[0].workerinput).write_text("\n".join(heavy))
        for worker in self.workers:
            self.scheduler.add_node(worker)
            self.scheduler.add_node_collection(worker, self.tests)
        self.scheduler.schedule()
        self.done: list[list[str]] = [[] for _ in self.workers]

    def __iter__(self):
        """The tests that run at the same time, until all have run."""
        while any(worker.given for worker in self.workers):
            running = [(number, worker) for number, worker in enumerate(self.workers) if worker.given]
            for _, worker in running:
                assert len(worker.given) > 1 or worker.shutting_down, "it would wait for what comes next"
            yield [self.tests[worker.given[0]] for _, worker in running]
            for number, worker in running:
                index = worker.given.pop(0)
                self.done[number].append(self.tests[index])
                self.scheduler.mark_test_complete(worker, index)


def test_half_of_the_workers_have_heavy_tests_while_there_are_light_ones():
    run = Run(4, CLOUDS + GUESTS, LIGHT)
    for running in run:
        at_once = len(run.heavy & set(running))
        done = {test for done in run.done for test in done}
        assert at_once <= 2 or set(LIGHT) <= done | set(running)
        assert at_once == 2 or done
    assert sorted(test for done in run.done for test in done) == sorted(run.tests)


def test_what_is_together_is_done_by_one():
    run = Run(4, CLOUDS + GUESTS, LIGHT)
    list(run)
    assert [set(CLOUDS) & set(done) for done in run.done].count(set()) == 3


@pytest.mark.parametrize("kind", ["heavy", "light"])
def test_all_help_with_what_there_is(kind):
    run = Run(2, **{"heavy": [], "light": [], kind: GUESTS})
    list(run)
    assert [len(done) for done in run.done] == [2, 2]


def test_the_last_tests_are_not_held_ready_by_a_worker_that_is_busy():
    run = Run(2, [], LIGHT)
    assert [len(worker.given) for worker in run.workers] == [2, 2]


def test_the_first_worker_tells_what_is_heavy():
    def item(nodeid: str, *marks: str) -> SimpleNamespace:
        return SimpleNamespace(nodeid=nodeid, iter_markers=lambda: [SimpleNamespace(name=mark) for mark in marks])

    told = {"workerid": "gw0", "testrunuid": "of-a-test-of-what-is-told"}
    items = [item("a", "vm"), item("b", "timeout"), item("c", "timeout", "browser")]
    tell_heavy(SimpleNamespace(workerinput=told | {"workerid": "gw1"}), items)
    assert not _heavy_tests(told).exists()
    tell_heavy(SimpleNamespace(workerinput=told), items)
    try:
        assert _heavy_tests(told).read_text() == "a\nc"
    finally:
        _heavy_tests(told).unlink()
    tell_heavy(SimpleNamespace(), items)  # one process has all tests: nobody asks


def test_only_a_path_that_is_not_there_is_missing(tmp_path):
    (tmp_path / "test_here.py").touch()
    asked = ["test_here.py", "test_here.py::test_it", "test_there.py", "nowhere/test_it.py::test_it"]
    config = SimpleNamespace(args=asked, invocation_params=SimpleNamespace(dir=tmp_path))
    assert missing_paths(config) == ["test_there.py", "nowhere/test_it.py"]


def test_workers_that_tell_of_no_heavy_tests_have_none():
    """They were given the name of a test that is not in its file."""
    worker = Worker("that-tells-of-nothing")
    config = SimpleNamespace(getvalue=lambda name: ["popen"], option=SimpleNamespace(loadscopereorder=True))
    scheduler = InGroups(config)
    scheduler.add_node(worker)
    scheduler.add_node_collection(worker, [])
    scheduler.schedule()
    assert worker.given == []
