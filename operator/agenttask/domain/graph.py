"""The step graph: which step waits for which.

A step without `needs` needs the one before it, so that a plain list runs in its order; `needs: []` needs nothing. A
step may need one that stands later in the list. Steps are known by their index, as in the report and in status.
"""

from collections.abc import Collection, Mapping, Sequence

from agenttask.api.errors import InvalidTask
from agenttask.api.steps import Step
from agenttask.domain.nearest import did_you_mean, listed, quoted


class StepGraph:
    """Direct and indirect needs of every step, by index.

    Raises:
        InvalidTask: two steps of one name, a need that is unknown or the step itself, or a cycle.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._names = tuple(step.name for step in steps)
        indexes = _indexes(self._names)
        self._needs = tuple(_direct(index, step, indexes) for index, step in enumerate(steps))
        self._ancestors = self._closure(steps)

    @property
    def names(self) -> tuple[str, ...]:
        """The steps' names, in the order of the spec."""
        return self._names

    def needs(self, index: int) -> frozenset[int]:
        """The steps that this one waits for directly."""
        return self._needs[index]

    def ancestors(self, index: int) -> frozenset[int]:
        """The steps that have ended when this one starts: its needs and theirs; what its templates may see."""
        return self._ancestors[index]

    def ready(self, finished: Collection[int], started: Collection[int]) -> tuple[int, ...]:
        """The steps that may start now, in the order of the spec; `started` includes the finished ones."""
        done, gone = frozenset(finished), frozenset(started) | frozenset(finished)
        return tuple(index for index, needs in enumerate(self._needs) if index not in gone and needs <= done)

    def _closure(self, steps: Sequence[Step]) -> tuple[frozenset[int], ...]:
        """Ancestors of all steps, found in the order in which the steps could run; a rest that cannot run has a cycle."""
        ancestors: dict[int, frozenset[int]] = {}
        while len(ancestors) < len(steps):
            ready = self.ready(ancestors, ancestors)
            if not ready:
                raise self._cycle(steps, frozenset(ancestors))
            for index in ready:
                needs = self._needs[index]
                ancestors[index] = needs.union(*(ancestors[need] for need in needs))
        return tuple(ancestors[index] for index in range(len(steps)))

    def _cycle(self, steps: Sequence[Step], runnable: frozenset[int]) -> InvalidTask:
        """The error for one cycle among the steps that can never run: each of those needs another of them."""
        path = [min(index for index in range(len(steps)) if index not in runnable)]
        while len(path) == len(set(path)):
            path.append(min(need for need in self._needs[path[-1]] if need not in runnable))
        path = path[path.index(path[-1]) :]
        shown = " → ".join(self._names[index] for index in path)
        implicit = any(steps[index].needs is None for index in path)
        hint = "; a step without `needs` needs the one before it, `needs: []` needs none" if implicit else ""
        first = path[0]
        where = f"spec.steps[{first}].needs" if steps[first].needs is not None else f"spec.steps[{first}]"
        return InvalidTask(where, f"the steps wait for each other: {shown} (each needs the next){hint}")


def _indexes(names: Sequence[str]) -> dict[str, int]:
    """Index by name; a name stands once."""
    indexes: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in indexes:
            raise InvalidTask(f"spec.steps[{index}].name", f"{quoted(name)} is the name of spec.steps[{indexes[name]}] too; rename one")
        indexes[name] = index
    return indexes


def _direct(index: int, step: Step, indexes: Mapping[str, int]) -> frozenset[int]:
    """The indexes of a step's direct needs."""
    if step.needs is None:
        return frozenset({index - 1}) if index else frozenset()
    for position, need in enumerate(step.needs):
        field = f"spec.steps[{index}].needs[{position}]"
        if need not in indexes:
            raise InvalidTask(field, f"no step is called {quoted(need)}; there are: {listed(indexes)}{did_you_mean(need, indexes)}")
        if need == step.name:
            raise InvalidTask(field, f"step {quoted(need)} needs itself; remove it from its own `needs`")
    return frozenset(indexes[need] for need in step.needs)
