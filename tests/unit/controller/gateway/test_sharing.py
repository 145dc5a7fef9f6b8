"""AgentModel's limits over all attempts that use it: divided when a pod is made, and again with every report."""

import pytest

from agenttask.api.gateway import Share
from agenttask.api.model import AgentModelSpec, Limits
from agenttask.controller.gateway.sharing import SILENT_SECONDS, Sharing


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


MODEL = AgentModelSpec(client="openai", model="m", endpoint="http://x", limits=Limits(concurrent_calls=8, requests_per_minute=60))
FREE = AgentModelSpec(client="openai", model="m", endpoint="http://x")
USED = {"small": MODEL, "free": FREE}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sharing(clock: Clock) -> Sharing:
    return Sharing(clock)


def calls(sharing: Sharing, uid: str, namespace: str = "n") -> int | None:
    return sharing.renew(namespace, uid, USED.items(), next_report=5)["small"].concurrent_calls


def test_a_new_pod_has_the_share_of_one_more(sharing: Sharing) -> None:
    assert sharing.first("n", "a", USED)["small"].limits == MODEL.limits
    assert sharing.first("n", "b", USED)["small"].limits == Limits(concurrent_calls=4, requests_per_minute=30)
    assert sharing.first("n", "c", USED)["free"] == FREE


def test_a_model_without_limits_has_no_share(sharing: Sharing) -> None:
    assert sharing.renew("n", "a", USED.items(), next_report=5) == {"small": Share(concurrent_calls=8, requests_per_minute=60)}


def test_who_reports_hears_of_the_newcomers_and_of_those_that_left(sharing: Sharing) -> None:
    assert calls(sharing, "a") == 8
    assert calls(sharing, "b") == 4
    assert calls(sharing, "a") == 4
    sharing.leave("b")
    assert calls(sharing, "a") == 8


def test_one_that_is_silent_gives_its_share_back_and_has_it_again(sharing: Sharing, clock: Clock) -> None:
    sharing.first("n", "pulling", USED)
    assert calls(sharing, "a") == 4
    clock.now += SILENT_SECONDS + 1
    assert calls(sharing, "a") == 8
    assert calls(sharing, "pulling") == 4


def test_who_is_asked_to_report_seldom_may_be_silent_longer(sharing: Sharing, clock: Clock) -> None:
    sharing.renew("n", "seldom", USED.items(), next_report=60)
    clock.now += SILENT_SECONDS + 1
    assert calls(sharing, "a") == 4


def test_namespaces_do_not_share(sharing: Sharing) -> None:
    calls(sharing, "a")
    assert calls(sharing, "b", namespace="other") == 8


def test_nothing_is_kept_when_all_have_left(sharing: Sharing) -> None:
    calls(sharing, "a")
    sharing.leave("a")
    sharing.leave("a")
    assert (sharing._circles, sharing._places) == ({}, {})
