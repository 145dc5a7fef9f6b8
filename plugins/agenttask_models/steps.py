"""How windows of different lengths go through a model: in order of length, so many rows and so many tokens a step."""

from collections.abc import Iterator, Sequence


def steps_by_length(lengths: Sequence[int], *, rows: int, tokens: int) -> Iterator[list[int]]:
    """Numbers of windows, a list a step: the longest first, at most `rows`, and rows x longest at most `tokens`.

    A window that alone is longer than `tokens` is a step by itself. The longest go first, so that a lack of memory shows at once.
    """
    step: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        if step and (len(step) == rows or (len(step) + 1) * lengths[step[0]] > tokens):
            yield step
            step = []
        step.append(at)
    if step:
        yield step
