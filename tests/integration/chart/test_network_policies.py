"""The chart's policies for namespaces that deny by default: made on wish, and no wider than what they are for."""

from typing import Any

import pytest

OURS = {"matchLabels": {"app.kubernetes.io/managed-by": "agenttask"}}
DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}


def policies(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What each says, by its namespace and the last word of its name."""
    found = [each for each in objects if each["kind"] == "NetworkPolicy"]
    return {(each["metadata"]["namespace"], each["metadata"]["name"].rpartition("-")[2]): each["spec"] for each in found}


def ports(*numbers: int) -> dict[str, Any]:
    return {"ports": [{"protocol": "TCP", "port": each} for each in numbers]}


def test_none_is_made_unasked(render: Any) -> None:
    assert policies(render()) == {}


def test_tasks_of_the_watched_namespaces_are_let_to_the_gateway_and_nobody_else(render: Any) -> None:
    objects = render("--set", "networkPolicies.enabled=true,watchNamespaces={a,b}")
    found = policies(objects)
    assert list(found) == [("ns", "controller"), ("ns", "api"), ("a", "tasks"), ("b", "tasks")]
    inward = found["ns", "controller"]
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    assert (inward["podSelector"], inward["policyTypes"]) == (deployment["spec"]["selector"], ["Ingress"])
    probes, tasks = inward["ingress"]
    assert probes == {"ports": [{"protocol": "TCP", "port": "health"}]}
    assert tasks["ports"] == [{"protocol": "TCP", "port": "gateway"}]
    (source,) = tasks["from"]
    assert source["podSelector"] == OURS
    assert source["namespaceSelector"]["matchExpressions"][0]["values"] == ["a", "b"]
    for namespace in ("a", "b"):
        outward = found[namespace, "tasks"]
        assert (outward["podSelector"], outward["policyTypes"]) == (OURS, ["Egress"])
        gateway, names = outward["egress"]
        assert gateway["ports"] == [{"protocol": "TCP", "port": 8443}]
        assert gateway["to"][0]["podSelector"] == inward["podSelector"]
        assert gateway["to"][0]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "ns"}}
        assert names == DNS


def test_the_controller_and_the_pod_of_helm_test_are_let_to_the_api_server(render: Any) -> None:
    objects = render("--set", "networkPolicies.enabled=true,networkPolicies.apiServerPorts={8443,16443}")
    outward = policies(objects)["ns", "api"]
    assert (outward["policyTypes"], outward["egress"]) == (["Egress"], [ports(8443, 16443), DNS])
    chosen = outward["podSelector"]["matchLabels"].items()
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    (test,) = (each for each in objects if each["kind"] == "Pod")
    for labels in (deployment["spec"]["template"]["metadata"]["labels"], test["metadata"]["labels"]):
        assert chosen <= labels.items()


@pytest.mark.parametrize(
    ("url", "port"),
    [
        pytest.param("http://collector.observability:4318", 4318, id="with a port"),
        pytest.param("https://otlp.example.com/v1", 443, id="https"),
        pytest.param("http://otlp.example.com", 80, id="http"),
        pytest.param("http://[2001:db8::1]:4318/", 4318, id="an address of IPv6"),
        pytest.param("http://[2001:db8::1]", 80, id="an address of IPv6 without a port"),
    ],
)
def test_spans_are_let_out_to_the_port_of_their_url(render: Any, url: str, port: int) -> None:
    found = policies(render("--set", f"networkPolicies.enabled=true,telemetry.otlpEndpoint={url}"))
    assert found["ns", "api"]["egress"][-1] == found["ns", "tasks"]["egress"][-1] == ports(port)


def test_for_all_namespaces_the_controller_takes_from_each_and_makes_none_there(render: Any) -> None:
    found = policies(render("--set", "networkPolicies.enabled=true,rbac.scope=cluster"))
    assert list(found) == [("ns", "controller"), ("ns", "api")]
    assert found["ns", "controller"]["ingress"][1]["from"][0]["namespaceSelector"] == {}


def test_without_a_gateway_nobody_is_let_to_it(render: Any) -> None:
    found = policies(render("--set", "networkPolicies.enabled=true,gateway.enabled=false"))
    assert found["ns", "controller"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": "health"}]}]
    assert found["ns", "tasks"]["egress"] == [DNS]
