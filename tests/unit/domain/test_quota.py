"""What refusals teach: who need not ask, who is tried and when, what is left. How turns go under quotas is in test_quota_turns.py."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.domain.quota import MOST_SIZES, WIDE, Asked, Quotas, Refusal
from agenttask.domain.quota_message import read

NOW = 1_800_000_000.0
N = "n"
FULL = (
    'pods "a-1" is forbidden: exceeded quota: few, requested: pods=1,requests.memory=2Gi, '
    "used: pods=5,requests.memory=9Gi, limited: pods=5,requests.memory=10Gi"
)


def asked(memory: int = 1, *, pods: int = 1, scope: str = "") -> Asked:
    return Asked(scope=scope, size=memory, amounts={"pods": Decimal(pods), "requests.memory": Decimal(memory)})


def refusal(memory: int = 1, *, left: int = 0) -> Refusal:
    return Refusal(message="full", quota="few", requested={"requests.memory": Decimal(memory)}, left={"requests.memory": Decimal(left)})


def quotas(delay: float = 10.0) -> Quotas:
    return Quotas(lambda failures: delay * failures)


def test_the_words_of_a_quota_are_numbers() -> None:
    found = read(FULL)

    assert found.message.startswith("exceeded quota: few, requested: pods=1")
    assert (found.quota, found.left) == ("few", {"pods": 0, "requests.memory": Decimal(2**30)})
    assert found.requested == {"pods": 1, "requests.memory": Decimal(2**31)}


@pytest.mark.parametrize(
    "message",
    [
        'pods is forbidden: User "x" cannot create resource "pods" in API group "" in the namespace "n"',
        "exceeded quota: small, requested: pods=1",
        "exceeded quota: small, requested: pods=many, used: pods=1, limited: pods=1",
        "exceeded quota: small, requested: , used: , limited: ",
    ],
)
def test_words_without_numbers_hold_for_every_pod(message: str) -> None:
    found, here = read(message), quotas()
    here.grant(N, "a", asked())
    here.refused(N, "a", asked(), found, NOW)

    assert (found.message, found.left) == (message, {})
    assert here.obstacle(N, asked(1), NOW) == message


@settings(max_examples=200)
@given(st.text(max_size=80) | st.from_regex(r"exceeded quota: [^ ]+, requested: [^ ]+, used: [^ ]+, limited: [^ ]+"))
def test_whatever_the_server_says_is_read(message: str) -> None:
    assert isinstance(read(message), Refusal)


def test_who_would_not_fit_is_not_tried_and_who_would_goes_on() -> None:
    here = quotas()
    here.refused(N, "a", asked(4), refusal(4, left=3), NOW)

    assert [here.obstacle(N, asked(size), NOW) for size in (3, 4, 5)] == [None, "full", "full"]
    assert here.obstacle(N, asked(4, scope="other"), NOW) is None
    assert here.obstacle("another", asked(4), NOW) is None
    here.grant(N, "b", asked(2))
    assert here.obstacle(N, asked(2), NOW) == "full"
    here.freed(N, asked(1))
    assert here.obstacle(N, asked(2), NOW) is None


def test_after_a_while_one_is_tried_and_while_that_is_taken_ever_more_at_once() -> None:
    here, at_once = quotas(), list[int]()
    here.refused(N, "a", asked(), refusal(), NOW)
    assert here.obstacle(N, asked(), NOW + 9.9) == "full"
    for number in range(6):
        tried = [f"{number}-{one}" for one in range(64)]
        granted = []
        for uid in tried:
            if here.obstacle(N, asked(), NOW + 10) is None:
                here.grant(N, uid, asked())
                granted.append(uid)
        at_once.append(len(granted))
        for uid in granted:
            here.made(N, uid, NOW + 10)

    assert at_once == [1, 2, 4, 8, 16, WIDE]
    assert N not in here


def test_the_first_refusal_ends_the_tries() -> None:
    here = quotas()
    here.refused(N, "a", asked(), refusal(), NOW)
    here.grant(N, "a", asked())
    here.made(N, "a", NOW + 10)
    for uid in "bc":
        assert here.obstacle(N, asked(), NOW + 10) is None
        here.grant(N, uid, asked())
    here.refused(N, "b", asked(), refusal(), NOW + 10)
    here.refused(N, "c", asked(), refusal(), NOW + 10)

    assert here.obstacle(N, asked(), NOW + 19.9) == "full"
    assert here.due(NOW + 20) == [N]


def test_refusals_in_a_row_are_ever_rarer_and_those_that_were_under_way_count_once() -> None:
    here = quotas()
    for uid in "abc":
        here.refused(N, uid, asked(), refusal(), NOW)
    assert here.due(NOW + 9.9) == []
    assert here.due(NOW + 10) == [N]
    here.grant(N, "a", asked())
    assert here.due(NOW + 10) == []
    here.refused(N, "a", asked(), refusal(), NOW + 10)

    assert here.due(NOW + 29.9) == []
    assert here.due(NOW + 30) == [N]


def test_a_pod_that_fits_as_far_as_we_know_and_is_refused_is_tried_again_soon() -> None:
    """The watch tells of a pod's end before the quota's controller has counted it."""
    here = quotas()
    for times in range(4):
        here.refused(N, "a", asked(), refusal(), NOW + 100 * times)
    assert here.due(NOW + 330) == []
    here.freed(N, asked())
    here.grant(N, "a", asked())
    here.refused(N, "a", asked(), refusal(), NOW + 301)

    assert here.due(NOW + 311) == [N]
    here.grant(N, "a", asked())
    assert not here.made(N, "a", NOW + 311)  # no sign of more room than we knew of
    assert here.obstacle(N, asked(), NOW + 320) == "full"


def test_what_pods_of_a_size_have_besides_what_we_know_is_learned() -> None:
    """A LimitRange adds limits, a RuntimeClass an overhead."""
    here = quotas()
    more = {"limits.cpu": Decimal(2), "requests.memory": Decimal(5), "requests.example.com/gpu": Decimal(1)}
    here.refused(N, "a", asked(1), Refusal(message="full", quota="few", requested=more, left=dict.fromkeys(more, Decimal(0))), NOW)
    here.freed(N, asked(1))

    assert here.obstacle(N, asked(1), NOW) is None
    assert here.obstacle(N, asked(2), NOW) is None
    here.grant(N, "b", asked(2))
    assert here.obstacle(N, asked(1), NOW) == "full"


def test_what_an_earlier_refusal_named_still_counts() -> None:
    """A refusal names only what is exceeded: of two pods, each too large in something else, neither fits because of the other."""
    here, posts = quotas(), 0
    heavy = {
        "cpu": Asked(size="c", amounts={"cpu": Decimal(4), "memory": Decimal(1)}),
        "memory": Asked(size="m", amounts={"cpu": Decimal(1), "memory": Decimal(4)}),
    }
    for name in ["cpu", "memory"] * 10:
        if here.obstacle(N, heavy[name], NOW) is None:
            here.grant(N, name, heavy[name])
            posts += 1
            said = Refusal(message="full", quota="few", requested={name: Decimal(4)}, left={name: Decimal(2)})
            here.refused(N, name, heavy[name], said, NOW)

    assert posts == 2
    assert here.obstacle(N, Asked(size="s", amounts={"cpu": Decimal(2), "memory": Decimal(2)}), NOW) is None


def test_a_try_that_fails_forgets_the_rest_so_that_a_raised_quota_is_found_behind_one_that_is_not() -> None:
    here = quotas()
    large, small = (Asked(size=name, amounts={"cpu": Decimal(cpu), "memory": Decimal(memory)}) for name, cpu, memory in ("l19", "s81"))
    for name, asked_, uid, now in (("cpu", small, "s", NOW), ("memory", large, "l", NOW), ("memory", large, "l", NOW + 10)):
        here.grant(N, uid, asked_)
        said = Refusal(message="full", quota="few", requested={name: asked_.amounts[name]}, left={name: Decimal(2)})
        here.refused(N, uid, asked_, said, now)

    assert here.obstacle(N, small, NOW + 10) is None
    assert here.due(NOW + 29) == []
    here.grant(N, "s", small)
    said = Refusal(message="full", quota="few", requested={"cpu": Decimal(8)}, left={"cpu": Decimal(2)})
    here.refused(N, "s", small, said, NOW + 10)
    assert here.due(NOW + 29) == [], "it tells of something else than what we had reckoned on: nobody was late"


def test_a_pod_that_is_not_made_gives_back_what_it_would_have_taken() -> None:
    here = quotas()
    here.refused(N, "a", asked(4), refusal(4, left=2), NOW)
    here.grant(N, "b", asked(2))
    assert here.obstacle(N, asked(1), NOW) == "full"
    here.leave(N, "b")
    assert here.obstacle(N, asked(2), NOW) is None
    here.grant(N, "b", asked(2))
    here.made(N, "b", NOW)
    here.leave(N, "b")
    assert here.obstacle(N, asked(1), NOW) == "full"


def test_the_sizes_whose_additions_are_remembered_are_bounded() -> None:
    here = quotas()
    for number in range(2 * MOST_SIZES):
        said = Refusal(message="full", quota="few", requested={"limits.cpu": Decimal(2)}, left={"limits.cpu": Decimal(1)})
        here.refused(N, "a", Asked(size=number), said, NOW)
    (closed,) = here._closed[N].values()

    assert [*closed.learned] == [*range(MOST_SIZES, 2 * MOST_SIZES)]
    assert here.obstacle(N, Asked(size=2 * MOST_SIZES - 1), NOW) == "full"


def test_where_somebody_adds_what_we_cannot_reckon_on_the_next_try_waits_all_the_same() -> None:
    here, device = quotas(), "requests.example.com/nic"
    here.grant(N, "a", asked())
    here.refused(N, "a", asked(), Refusal(message="full", quota="few", requested={device: Decimal(1)}, left={device: Decimal(0)}), NOW)

    assert here.obstacle(N, asked(), NOW + 9.9) == "full"
    assert here.obstacle(N, asked(), NOW + 10) is None


def test_what_was_learned_of_a_size_adds_up() -> None:
    here = quotas()
    for name in ("limits.cpu", "limits.memory"):
        here.refused(N, "a", asked(), Refusal(message="full", quota="few", requested={name: Decimal(2)}, left={name: Decimal(1)}), NOW)
    for _ in range(2):
        here.freed(N, asked())
    assert here.obstacle(N, asked(), NOW) is None
    here.grant(N, "b", asked())
    (closed,) = here._closed[N].values()

    assert closed.left == {"limits.cpu": 1 + 2 * 2 - 2, "limits.memory": 1 + 2 * 2 - 2}


def test_a_try_that_comes_to_nothing_leaves_its_place_to_another() -> None:
    here = quotas()
    here.refused(N, "a", asked(), refusal(), NOW)
    here.grant(N, "b", asked())
    assert here.obstacle(N, asked(), NOW + 10) == "full"
    here.leave(N, "b")
    assert here.obstacle(N, asked(), NOW + 10) is None
