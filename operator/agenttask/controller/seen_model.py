"""An AgentModel as the cache holds it."""

from msgspec import Struct

from agenttask.api.model import AgentModelSpec


class SeenModel(Struct, frozen=True, kw_only=True):
    """`spec` is None when it cannot be read, `secret` is the Secret with its credential."""

    spec: AgentModelSpec | None
    problem: str = ""
    secret: str = ""
