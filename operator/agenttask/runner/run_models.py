"""The models of one run, put together of what the process lends and what is the task's own: clients, engines, limits, breakers."""

from collections.abc import Awaitable, Callable

from agenttask.api.document import ModelDocument, TaskDocument
from agenttask.plugin.llm import ClientContext
from agenttask.runner.devices import engine_limits, torch_device
from agenttask.runner.engine_terms import EngineTerms
from agenttask.runner.engines import Engines
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.models import Models, credential_of
from agenttask.runner.session import SharedSession
from agenttask.runner.station import Station

CloseWith = Callable[[str, Callable[[], Awaitable[None]]], None]
"""What is closed with the run, the last named first."""


def run_models(document: TaskDocument, station: Station, session: SharedSession, *, close_with: CloseWith) -> Models:
    """The clients of the task's models; none is made before a step asks."""

    def log(message: str) -> None:
        station.log("models", message)

    def device() -> str:
        strategy = station.plugins.device_strategies.choose(document.device.strategy)()
        return torch_device(strategy, document.device, device_type=station.settings.device_type, accelerators=station.accelerators)

    if any(model.endpoint is not None for model in document.models):
        session.prepare()
    shared = station.engines or Engines(station.plugins.model_factories.choose, station.settings, log=log)
    engines = shared.for_task(EngineTerms(device=device, limits=engine_limits(document), log=log))

    def context(model: ModelDocument) -> ClientContext:
        return ClientContext(credential=credential_of(model, station.credentials), session=session.for_model(model), engines=engines)

    models = Models(
        document.models,
        factory=station.plugins.llm_clients.choose,
        context=context,
        observer=station.observer,
        endpoints=station.endpoints or Endpoints(log=station.log, clock=station.clock),
        log=station.log,
        clock=station.clock,
        shared=station.gateway is not None,
    )
    close_with("connections", session.aclose)
    if station.engines is None:
        close_with("engines", shared.aclose)
    close_with("models", models.aclose)
    return models
