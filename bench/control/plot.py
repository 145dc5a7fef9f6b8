"""The picture of a benchmark: bars with the median and a line from the least to the most, as SVG without any library."""

from collections.abc import Callable, Sequence
from html import escape
from math import nan
from typing import Final

from bench.control.arithmetic import Spread, short, spread
from bench.control.race import CONTENDER, Run
from msgspec import Struct

WIDTH, ROW, LEFT, RIGHT, HEAD = 760, 26, 150, 90, 34
COLOURS: Final = {"agenttask": "#2563eb", "Job, tuned": "#f59e0b", "Job, default": "#a3a3a3", "bare loop": "#10b981"}


class Panel(Struct, frozen=True, kw_only=True):
    """A title and a bar for each contender."""

    title: str
    bars: tuple[tuple[str, Spread], ...]


def picture(panels: Sequence[Panel]) -> str:
    """All panels below one another; each has its own scale."""
    drawn, top = [], 10
    for panel in panels:
        drawn.append(_panel(panel, top))
        top += HEAD + ROW * len(panel.bars) + 14
    style = "text{font:12px sans-serif;fill:#333}.t{font-weight:bold;font-size:13px}"
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style><rect width="100%" height="100%" fill="white"/>'
    return f"{head}{''.join(drawn)}</svg>\n"


def panels(runs: Sequence[Run]) -> list[Panel]:
    """What is worth a look; panels without bars are left out."""
    counted = [run for run in runs if not run.void]
    bursts = [run for run in counted if run.load.rate is None and run.load.run_seconds == 0]
    paced = [run for run in counted if run.load.rate == 10]
    kinds: list[tuple[str, list[Run], Callable[[Run], float]]] = [
        ("Tasks completed a second, all applied at once, pods run 0 s (more is better)", bursts, lambda run: run.complete_rate),
        ("CPU of the controller, ms a task (less is better)", bursts, lambda run: run.cpu[CONTENDER]),
        ("CPU of API server and etcd, ms a task", bursts, lambda run: run.cpu["kube-apiserver"] + run.cpu["etcd"]),
        ("Writes to the API a task", bursts, lambda run: sum(run.writes.values())),
        ("Apply → pod at 10 tasks a second, p50 ms", paced, lambda run: run.apply_to_pod[0] if run.apply_to_pod else nan),
        (
            "Pod ended → complete at 10 tasks a second, p50 ms",
            paced,
            lambda run: run.ended_to_complete[0] if run.ended_to_complete else nan,
        ),
    ]
    found = []
    for title, some, value in kinds:
        bars = [(name, spread([value(run) for run in some if run.contender == name])) for name in COLOURS]
        drawn = tuple((name, bar) for name, bar in bars if bar is not None)
        if drawn:
            found.append(Panel(title=title, bars=drawn))
    return found


def _panel(panel: Panel, top: int) -> str:
    most = max(bar.most for _, bar in panel.bars) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / most
    drawn = [f'<text class="t" x="10" y="{top + 18}">{escape(panel.title)}</text>']
    for number, (name, bar) in enumerate(panel.bars):
        y = top + HEAD + number * ROW
        least, middle, most_here = (LEFT + value * scale for value in (bar.least, bar.median, bar.most))
        drawn += [
            f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{max(1.0, middle - LEFT):.1f}" height="18" fill="{COLOURS.get(name, "#737373")}"/>',
            f'<line x1="{least:.1f}" x2="{most_here:.1f}" y1="{y + 9}" y2="{y + 9}" stroke="#111" stroke-width="1.5"/>',
            f'<text x="{max(middle, most_here) + 6:.1f}" y="{y + 13}">{short(bar.median)}</text>',
        ]
    return "".join(drawn)
