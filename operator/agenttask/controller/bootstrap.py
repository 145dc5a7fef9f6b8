"""The only place where the controller's parts are made and joined."""

import asyncio
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kopf

from agenttask.api.constants import LABEL_MANAGED_BY, MANAGED_BY
from agenttask.controller import kopf_app, kube_paths, probes
from agenttask.controller.acceptance import names_of
from agenttask.controller.admission import CLAIM, CONFIG_MAP, MODEL, Gate, Key
from agenttask.controller.attempt_pods import AttemptPods
from agenttask.controller.device_events import DeviceEvents
from agenttask.controller.dispatcher import Dispatcher
from agenttask.controller.expiry import Expiry
from agenttask.controller.fencing import Fenced
from agenttask.controller.gateway.service import GatewayService
from agenttask.controller.handover import NoHandover
from agenttask.controller.inventory import Inventory
from agenttask.controller.kube import KubeClient
from agenttask.controller.leadership import Always, Leadership, Terms
from agenttask.controller.line_keeper import LineKeeper
from agenttask.controller.login import Connection, find_credentials
from agenttask.controller.observer import TaskObserver
from agenttask.controller.pace import Pace
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.program import Controller
from agenttask.controller.queues import QueueObject, Queues
from agenttask.controller.quota_gate import QuotaGate
from agenttask.controller.reconcile import Reconciler
from agenttask.controller.reflector import Reflector
from agenttask.controller.settings import LeaderElection, Settings
from agenttask.controller.starter import Starter
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache
from agenttask.controller.tracing import observed
from agenttask.controller.turns import Turns
from agenttask.controller.view import View
from agenttask.controller.wakeups import Wakeups
from agenttask.controller.wire import Node, PartialObject, Pod
from agenttask.controller.workqueue import WorkQueue
from agenttask.controller.world import World
from agenttask.domain.model_capacity import NothingTold
from agenttask.plugin.registry import Plugins, load


async def serve(settings: Settings, environ: Mapping[str, str], *, home: Path | None = None) -> bool:
    """Run until SIGTERM; False when a part of the controller ended by itself.

    Raises:
        LoginError: there are no credentials for an API server.
        BadIdentity: the gateway's Secret has not what it needs.
    """
    credentials = await find_credentials(environ, home=home)
    plugins = load(allowed_distributions=settings.plugins.allowed_distributions)
    async with Connection(credentials) as connection, observed(environ, settings.telemetry.otlp_endpoint) as observer:
        client = KubeClient(connection.session, connection.server)
        controller = make(settings, client, plugins, observer, namespace=connection.namespace)
        async with probes.serve(settings.probe_port, alive=controller.alive, ready=controller.ready, missing=controller.missing):
            await kopf.operator(
                registry=kopf_app.registry(controller, connection.login()),
                settings=kopf_app.settings(),
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                standalone=True,
                stop_flag=controller.ended,
            )
    return not controller.failed.is_set()


def make(settings: Settings, client: KubeClient, plugins: Plugins, observer: TaskObserver, *, namespace: str | None = None) -> Controller:
    """The controller, ready to start; `namespace` is its own.

    Raises:
        BadIdentity: the gateway's Secret has not what it needs.
    """
    loop, clock = asyncio.get_running_loop(), client.clock
    queue: WorkQueue[str] = WorkQueue(taking=False)
    leadership = _leadership(settings.leader_election, client, namespace)
    writer = Fenced(client, leadership.leading)
    wakeups, tasks = Wakeups(), TaskCache()

    def wake(key: Key) -> None:
        for uid in wakeups.fire(key):
            queue.add(uid)
        if key[0] == MODEL:
            dispatcher.model_changed(key[1])

    inventory = Inventory(settings.device_classes, lambda: dispatcher.devices_changed())
    queues = Queues(lambda namespace, name: dispatcher.queue_changed(namespace, name))
    world = World(
        tasks=tasks,
        pods=PodCache(
            inventory=inventory,
            is_open=lambda uid: tasks.get(uid) is not None,
            wake=queue.add,
            freed=lambda uid: quota.pod_ended(uid),
        ),
        models=Models(wake),
        inputs=Presence(wake),
        inventory=inventory,
        wakeups=wakeups,
    )
    names = names_of(plugins, settings.plugins.extra)
    strategies = {name: plugins.device_strategies.choose(name)() for name in plugins.device_strategies.names}
    namespaces = settings.namespaces or (None,)
    expiry = Expiry(client, writer, namespaces, clock=clock)
    pods = AttemptPods(pods=world.pods, writer=writer, installation=settings, clock=clock)
    gates = settings.feature_gates
    gateway = (
        GatewayService(
            settings.gateway,
            writer=writer,
            world=world,
            installation=settings,
            wake=queue.add,
            leading=leadership.leading,
            clock=clock,
            holders=lambda namespace, model: dispatcher.holders(namespace, model),
        )
        if settings.gateway.enabled and gates.gateway
        else None
    )
    handover = gateway.desk if gateway is not None else NoHandover()
    gate = Gate(settings, names, strategies)
    quota = QuotaGate(settings, charged=world.pods.charged, later=loop.call_later)
    dispatcher = Dispatcher(
        queues=queues,
        models=world.models if gates.provider_admission else Models(lambda _: None),
        inventory=inventory,
        gate=gate,
        quota=quota,
        installation=settings,
        health=gateway.desk.health if gateway is not None and gates.provider_admission else NothingTold(),
        max_running=settings.max_running_tasks,
        wake=queue.add,
        clock=clock,
    )
    turns = Turns(
        world=world,
        pods=pods,
        installation=settings,
        names=names,
        gate=gate,
        dispatcher=dispatcher,
        node_lost_seconds=settings.node_lost_seconds,
    )
    classes = [one.name for one in settings.device_classes]
    keeper = LineKeeper(
        queues=queues,
        dispatcher=dispatcher,
        classes=classes,
        writer=writer,
        per_second=settings.waiting_writes_per_second,
        clock=clock,
    )
    view = View(
        world=world,
        pods=pods,
        turns=turns,
        devices=DeviceEvents(writer),
        observer=observer,
        handover=handover,
        store=settings.output_store,
        node_lost_seconds=settings.node_lost_seconds,
    )
    reconciler = Reconciler(
        world=world,
        writer=writer,
        installation=settings,
        view=view,
        pods=pods,
        observer=observer,
        handover=handover,
        pace=Pace(settings.waiting_writes_per_second),
        ended=expiry.note,
        clock=clock,
    )
    controller = Controller(
        world=world,
        queue=queue,
        reconcile=reconciler.reconcile,
        client=client,
        namespaces=namespaces,
        reflectors=[reflector for namespace in namespaces for reflector in _reflectors(client, world, queues, namespace)],
        nodes=_nodes(client, inventory) if settings.nodes else None,
        leadership=leadership,
        line_up=Starter(tasks=tasks, pods=world.pods, turns=turns, dispatcher=dispatcher, clock=clock).start,
        background={"gateway": lambda: gateway.run(controller.ready)} if gateway is not None else {},
        duties={"line": keeper.run, "expiry": expiry.run},
        workers=settings.workers,
        clock=loop.time,
    )
    return controller


def _leadership(election: LeaderElection, client: KubeClient, namespace: str | None) -> Leadership | Always:
    if not election.enabled:
        return Always()
    terms = Terms(
        name=election.lease_name,
        namespace=election.namespace or namespace or "default",
        identity=f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        lease=election.lease_seconds,
        renew=election.renew_seconds,
    )
    return Leadership(client, terms)


def _reflectors(client: KubeClient, world: World, queues: Queues, namespace: str | None) -> list[Reflector[Any]]:
    """The mirrors of one namespace: our pods, the queues, and the names of what tasks may mount."""
    pods = Reflector(
        client,
        kube_paths.pods_path(namespace),
        Pod,
        key=lambda pod: pod.metadata.uid,
        on_change=world.pods.on_change,
        wanted=world.pods.wanted,
        label_selector=f"{LABEL_MANAGED_BY}={MANAGED_BY}",
    )
    inputs = [
        Reflector(
            client,
            path(namespace),
            PartialObject,
            key=lambda one: one.metadata.uid,
            on_change=world.inputs.on_change(kind),
            metadata_only=True,
        )
        for kind, path in ((CONFIG_MAP, kube_paths.configmaps_path), (CLAIM, kube_paths.pvcs_path))
    ]
    lines = Reflector(client, kube_paths.queues_path(namespace), QueueObject, key=lambda one: one.metadata.uid, on_change=queues.on_change)
    return [pods, lines, *inputs]


def _nodes(client: KubeClient, inventory: Inventory) -> Reflector[Node]:
    return Reflector(client, kube_paths.nodes_path(), Node, key=lambda node: node.metadata.name, on_change=inventory.on_node)
