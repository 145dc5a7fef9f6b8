"""A reconciler over given caches, wired as the controller's bootstrap does it."""

from collections.abc import Callable, Mapping

from agenttask.controller.acceptance import PluginNames
from agenttask.controller.admission import Gate
from agenttask.controller.attempt_pods import AttemptPods
from agenttask.controller.device_events import DeviceEvents
from agenttask.controller.dispatcher import Dispatcher
from agenttask.controller.handover import Handover, NoHandover
from agenttask.controller.installation import Installation
from agenttask.controller.observer import NoObserver
from agenttask.controller.pace import Pace
from agenttask.controller.queues import Queues
from agenttask.controller.quota_gate import QuotaGate
from agenttask.controller.reconcile import Reconciler
from agenttask.controller.turns import Turns
from agenttask.controller.view import View
from agenttask.controller.world import World, Writer
from agenttask.domain.device import DeviceStrategy
from agenttask.domain.model_capacity import NothingTold

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
    queues: Queues | None = None,
    max_running: int = 0,
    wake: Callable[[str], None] = lambda _: None,
) -> Reconciler:
    """Its parts hold nothing but what they remember between passes; `wake` is told who got a turn without asking."""
    pods = AttemptPods(pods=world.pods, writer=writer, installation=installation, clock=clock)
    gate = Gate(installation, names, strategies)
    dispatcher = Dispatcher(
        queues=queues if queues is not None else Queues(lambda *_: None),
        models=world.models,
        inventory=world.inventory,
        gate=gate,
        quota=QuotaGate(installation, charged=world.pods.charged, later=lambda _, call, uid: call(uid), random=random),
        installation=installation,
        health=NothingTold(),
        max_running=max_running,
        wake=wake,
        clock=clock,
    )
    dispatcher.open()
    view = View(
        world=world,
        pods=pods,
        turns=Turns(
            world=world,
            pods=pods,
            installation=installation,
            names=names,
            gate=gate,
            dispatcher=dispatcher,
            node_lost_seconds=node_lost_seconds,
        ),
        devices=DeviceEvents(writer),
        observer=NoObserver(),
        handover=handover,
        store=installation.output_store,
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
