"""Rules of an AgentModel that its CRD cannot say, or that an older one did not; the others are in tests/unit/crds/rule_cases.py."""

import pytest

from agenttask.api.errors import InvalidTask
from agenttask.api.model import AgentModelSpec
from agenttask.domain.model_rules import check_model


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding"])
def test_a_header_of_the_connection_is_refused_with_the_remedy(name: str) -> None:
    spec = AgentModelSpec(client="scripted", model="m", headers={"X-Team": "a", name: "b"})
    with pytest.raises(InvalidTask, match=rf"^AgentModel m: spec\.headers: '{name}' is set by the connection itself; remove it$"):
        check_model("m", spec, prefix="AgentModel m: ")


@pytest.mark.parametrize("endpoint", ["https://a.example", "http://10.0.0.1:8000/v1", "http://[::1]:8000/", "https://a.example/openai/v1/"])
def test_a_base_url_is_taken(endpoint: str) -> None:
    check_model("m", AgentModelSpec(client="openai", model="m", endpoint=endpoint))
