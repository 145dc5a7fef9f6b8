"""AgentModel's limits over all attempts that use it: divided when a pod is made, and again with every report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


class Turns:
    """Who has a turn with the model `small`."""

    def __init__(self) -> None:
        self.uids: list[str] = []

    def __call__(self, namespace: str, model: str) -> list[str]:
        return self.uids if (namespace, model) == ("n", "small") else []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def sharing(clock: Clock, turns: Turns) -> Sharing:
    return Sharing(clock, turns)


def calls(sharing: Sharing, uid: str, namespace: str = "n") -> int | None:
    return sharing.renew(namespace, uid, USED, next_report=5)["small"].concurrent_calls


def begins(sharing: Sharing, uid: str) -> int | None:
    return sharing.first("n", uid, USED)["small"].limits.concurrent_calls


def test_a_new_pod_has_the_share_of_one_more(sharing: Sharing) -> None:
    assert sharing.first("n", "a", USED)["small"].limits == MODEL.limits
    assert sharing.first("n", "b", USED)["small"].limits == Limits(concurrent_calls=4, requests_per_minute=30)
    assert sharing.first("n", "c", USED)["free"] == FREE


def test_a_model_without_limits_has_no_share(sharing: Sharing) -> None:
    assert sharing.renew("n", "a", USED, next_report=5) == {"small": Share(concurrent_calls=8, requests_per_minute=60)}


def test_who_reports_hears_of_the_newcomers_and_of_those_that_left(sharing: Sharing) -> None:
    assert calls(sharing, "a") == 8
    assert begins(sharing, "b") == 4
    assert calls(sharing, "a") == 4
    sharing.leave("b")
    assert calls(sharing, "a") == 8


def test_nobody_has_more_before_the_others_know_that_they_have_less(sharing: Sharing) -> None:
    assert [begins(sharing, uid) for uid in "abc"] == [8, 4, 2]
    sharing.leave("c")
    assert (calls(sharing, "b"), calls(sharing, "a"), calls(sharing, "b")) == (4, 4, 4)
    sharing.leave("a")
    assert begins(sharing, "d") == 4
    assert (calls(sharing, "b"), calls(sharing, "d")) == (4, 4)


def test_pods_of_turns_that_were_given_together_begin_with_what_all_of_them_may_have(sharing: Sharing, turns: Turns) -> None:
    turns.uids = list("abcdefgh")
    assert [begins(sharing, uid) for uid in "abcdefgh"] == [1] * 8


def test_a_controller_that_starts_anew_knows_those_that_have_a_turn(sharing: Sharing, turns: Turns) -> None:
    turns.uids = ["a", "b"]
    assert [calls(sharing, uid) for uid in "ab"] == [4, 4]
    turns.uids = ["a"]
    sharing.leave("b")
    assert calls(sharing, "a") == 8


def test_one_that_is_silent_gives_its_share_back_and_has_it_again(sharing: Sharing, clock: Clock, turns: Turns) -> None:
    turns.uids = ["a", "pulling"]
    sharing.first("n", "pulling", USED)
    assert calls(sharing, "a") == 4
    clock.now += SILENT_SECONDS + 1
    assert calls(sharing, "a") == 8
    assert calls(sharing, "pulling") == 4
    assert calls(sharing, "a") == 4


def test_who_is_asked_to_report_seldom_may_be_silent_longer(sharing: Sharing, clock: Clock) -> None:
    sharing.renew("n", "seldom", USED, next_report=60)
    clock.now += SILENT_SECONDS + 1
    assert calls(sharing, "a") == 4


def test_namespaces_do_not_share(sharing: Sharing) -> None:
    calls(sharing, "a")
    assert calls(sharing, "b", namespace="other") == 8


def test_a_model_that_is_another_one_there_is_counted_as_that_one(sharing: Sharing) -> None:
    """Two tasks on a remote class, whose local models are the same endpoint there, and one that names the endpoint itself."""
    there = {"mine": "small"}
    found = sharing.first("n", "a", {"mine": MODEL}, there)["mine"].limits.concurrent_calls
    assert found == 8
    assert begins(sharing, "b") == 4
    assert sharing.renew("n", "a", {"mine": MODEL}, there, next_report=5)["mine"].concurrent_calls == 4


def test_a_task_that_knows_one_model_by_two_names_divides_its_share(sharing: Sharing) -> None:
    both = {"mine": MODEL, "small": MODEL}
    shares = sharing.first("n", "a", both, {"mine": "small"})
    assert [shares[name].limits.concurrent_calls for name in both] == [4, 4]
    assert begins(sharing, "b") == 4


def test_nothing_is_kept_when_all_have_left(sharing: Sharing, turns: Turns) -> None:
    turns.uids = ["a", "b"]
    calls(sharing, "a")
    turns.uids = []
    for uid in ("a", "a", "b"):
        sharing.leave(uid)
    assert (sharing._circles, sharing._places) == ({}, {})


ACTS = st.lists(st.tuples(st.sampled_from(("enter", "report", "report", "leave")), st.sampled_from("abcdefgh")), max_size=60)


@given(acts=ACTS, limit=st.integers(1, 40), together=st.booleans())
def test_the_shares_are_more_than_the_limit_only_by_what_newcomers_begin_with(
    acts: list[tuple[str, str]], limit: int, *, together: bool
) -> None:
    """No report makes the sum larger than the limit; once all have reported since the last one came, it is not, but for one call each."""
    clock, turns = Clock(), Turns()
    sharing = Sharing(clock, turns)
    turns.uids = list("abcdefgh") if together else []
    models = {"small": AgentModelSpec(client="openai", model="m", endpoint="http://x", limits=Limits(concurrent_calls=limit))}
    told: dict[str, int] = {}
    unheard: set[str] = set()
    for act, uid in acts:
        before = sum(told.values())
        match act:
            case "enter" if uid not in told:
                told[uid] = sharing.first("n", uid, models)["small"].limits.concurrent_calls or 0
                counted = 8 if together else len(told)
                assert told[uid] <= max(1, -(-limit // counted))
                unheard = set(told) - {uid}
            case "report" if uid in told:
                told[uid] = sharing.renew("n", uid, models, next_report=5)["small"].concurrent_calls or 0
                unheard.discard(uid)
                assert sum(told.values()) <= max(limit, before, len(told))
            case "leave" if uid in told and not together:
                sharing.leave(uid)
                del told[uid]
                unheard.discard(uid)
        assert all(share >= 1 for share in told.values())
        if not unheard or together:
            assert sum(told.values()) <= max(limit, 8 if together else len(told))
