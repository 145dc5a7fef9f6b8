"""A reconciler over given caches, wired as the controller's bootstrap does it."""

from collections.abc import Callable, Mapping

from agenttask.controller.acceptance import PluginNames
from agenttask.controller.admission import Gate
from agenttask.controller.attempt_pods import AttemptPods
from agenttask.controller.handover import Handover, NoHandover
from agenttask.controller.installation import Installation
from agenttask.controller.observer import NoObserver
from agenttask.controller.pace import Pace
from agenttask.controller.reconcile import Reconciler
from agenttask.controller.view import View
from agenttask.controller.world import World, Writer
from agenttask.domain.device import DeviceStrategy

NO_HANDOVER = NoHandover()


def reconciler(
    world: World,
    writer: Writer,
    *,
    installation: Installation,
    names: PluginNames,
    strategies: Mapping[str, DeviceStrategy],
    clock: Callable[[], float],
    random: Callable[[], float],
    per_second: float = 5.0,
    node_lost_seconds: float = 300.0,
    handover: Handover = NO_HANDOVER,
) -> Reconciler:
    """Its parts hold nothing but what they remember between passes."""
    pods = AttemptPods(pods=world.pods, writer=writer, installation=installation, clock=clock, random=random)
    view = View(
        world=world,
        pods=pods,
        installation=installation,
        names=names,
        gate=Gate(installation, names, strategies),
        observer=NoObserver(),
        handover=handover,
        node_lost_seconds=node_lost_seconds,
    )
    return Reconciler(
        world=world,
        writer=writer,
        installation=installation,
        view=view,
        pods=pods,
        observer=NoObserver(),
        handover=handover,
        pace=Pace(per_second),
        ended=lambda *_: None,
        clock=clock,
    )
