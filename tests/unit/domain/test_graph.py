"""A list runs in its order, `needs` says otherwise, and what can never run is refused with the path of its field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import InvalidTask
from agenttask.api.steps import Read, Step
from agenttask.domain.graph import StepGraph


def step(name: str, *needs: str, implicit: bool = False) -> Step:
    return Step(name=name, needs=None if implicit else needs, read=Read(paths=("x",)))


def graph(*steps: Step) -> StepGraph:
    return StepGraph(steps)


def refused(*steps: Step) -> InvalidTask:
    with pytest.raises(InvalidTask) as caught:
        StepGraph(steps)
    return caught.value


def test_a_step_without_needs_needs_the_one_before_it():
    plan = graph(step("a", implicit=True), step("b", implicit=True), step("c", implicit=True))
    assert [plan.needs(index) for index in range(3)] == [frozenset(), {0}, {1}]


def test_empty_needs_need_nothing():
    assert graph(step("a"), step("b")).needs(1) == frozenset()


def test_a_step_may_need_a_later_one():
    plan = graph(step("a", "b"), step("b"))
    assert (plan.needs(0), plan.ready((), ())) == ({1}, (1,))


def test_ancestors_are_needs_and_theirs():
    plan = graph(step("a"), step("b", "a"), step("c", "b"), step("d", "a"))
    assert [plan.ancestors(index) for index in range(4)] == [frozenset(), {0}, {0, 1}, {0}]


def test_a_step_is_ready_once_all_its_needs_have_finished_and_only_until_it_starts():
    plan = graph(step("a"), step("b"), step("c", "a", "b"))
    assert [plan.ready(*seen) for seen in [((), ()), ({0}, {0, 1}), ({0, 1}, {0, 1}), ({0, 1}, {0, 1, 2})]] == [(0, 1), (), (2,), ()]


def test_finished_steps_count_as_started():
    assert graph(step("a"), step("b", "a")).ready({0}, ()) == (1,)


def test_two_steps_of_one_name_are_refused():
    error = refused(step("a"), step("b"), step("a"))
    assert (error.field, error.problem) == ("spec.steps[2].name", "'a' is the name of spec.steps[0] too; rename one")


def test_an_unknown_need_is_refused_with_the_nearest_name():
    error = refused(step("docs"), step("plan", "docs", "dosc"))
    assert error.field == "spec.steps[1].needs[1]"
    assert error.problem == "no step is called 'dosc'; there are: docs, plan; did you mean 'docs'?"


def test_a_step_that_needs_itself_is_refused():
    error = refused(step("a"), step("b", "b"))
    assert (error.field, error.problem) == ("spec.steps[1].needs[0]", "step 'b' needs itself; remove it from its own `needs`")


def test_a_cycle_is_refused_with_its_path():
    error = refused(step("start"), step("a", "start", "b"), step("b", "c"), step("c", "a"))
    assert (error.field, error.problem) == ("spec.steps[1].needs", "the steps wait for each other: a → b → c → a (each needs the next)")


def test_a_cycle_through_the_step_before_tells_of_that_rule():
    error = refused(step("a", "b"), step("b", implicit=True))
    assert error.problem.endswith("a step without `needs` needs the one before it, `needs: []` needs none")


def test_a_step_behind_a_cycle_is_not_part_of_its_path():
    assert "behind" not in refused(step("behind", "a"), step("a", "b"), step("b", "a")).problem


@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8))
def test_every_graph_is_refused_or_runs_to_its_end(needs: list[set[int]]):
    steps = [step(f"s{index}", *(f"s{need}" for need in sorted(wanted))) for index, wanted in enumerate(needs)]
    try:
        plan = StepGraph(steps)
    except InvalidTask:
        return
    finished: set[int] = set()
    while len(finished) < len(steps):
        ready = plan.ready(finished, finished)
        assert ready
        assert all(plan.needs(index) <= plan.ancestors(index) <= finished for index in ready)
        finished.update(ready)
