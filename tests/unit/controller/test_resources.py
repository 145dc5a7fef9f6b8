"""Requests and limits: wishes, defaults, volumes."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.seen import spec

from agenttask.api.pod_options import ResourceList, Resources
from agenttask.controller.installation import TaskDefaults
from agenttask.controller.resources import requirements
from agenttask.domain.device import DeviceClass
from agenttask.domain.quantity import amount

DEFAULTS = TaskDefaults()


@pytest.mark.parametrize(
    ("text", "number"), [("500m", "0.5"), ("2", "2"), ("1.5Gi", "1610612736"), ("3k", "3000"), ("1E", "1e18"), (2, "2"), (0, "0")]
)
def test_a_quantity_is_a_number(text: str | int, number: str) -> None:
    assert amount(text) == Decimal(number)


@pytest.mark.parametrize(
    ("wish", "request_", "limit"),
    [
        ({}, "128Mi", "2Gi"),
        ({"requests": {"memory": "8Gi"}}, "8Gi", "8Gi"),
        ({"requests": {"memory": "1Gi"}}, "1Gi", "2Gi"),
        ({"limits": {"memory": "64Mi"}}, "64Mi", "64Mi"),
        ({"limits": {"memory": "4Gi"}}, "128Mi", "4Gi"),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "3Gi"}}, "1Gi", "3Gi"),
        ({"requests": {"memory": 1000000}, "limits": {"memory": 3000000000}}, "1000000", "3000000000"),
    ],
)
def test_a_wish_on_one_side_moves_the_default_of_the_other(wish: dict[str, Any], request_: str, limit: str) -> None:
    found = requirements(spec(pod={"resources": wish}), DEFAULTS, None)

    assert (found.requests["memory"], found.limits["memory"]) == (request_, limit)


def test_the_volumes_come_on_top_of_ephemeral_storage() -> None:
    found = requirements(spec(workspace={"sizeLimit": "20Gi"}), DEFAULTS, None)

    assert int(found.limits["ephemeral-storage"]) == (20 << 30) + (2 << 30) + (512 << 20)
    assert found.requests["ephemeral-storage"] == "128Mi"


def test_an_installation_may_leave_limits_open() -> None:
    bare = TaskDefaults(resources=Resources(limits=ResourceList(memory="1Gi")))

    found = requirements(spec(), bare, DeviceClass(name="gpu", resources={"nvidia.com/gpu": 2, "odd.com/x": 0}))

    assert found.limits == {"memory": "1Gi", "nvidia.com/gpu": "2"}
    assert found.requests == {"memory": "1Gi", "nvidia.com/gpu": "2"}


quantities = st.from_regex(r"[0-9]{1,6}(m|k|M|Ki|Mi|Gi)?", fullmatch=True)
wishes = st.fixed_dictionaries({}, optional={"cpu": quantities, "memory": quantities})


@given(wishes, wishes)
def test_a_default_never_contradicts_a_wish(requests: dict[str, str], limits: dict[str, str]) -> None:
    found = requirements(spec(pod={"resources": {"requests": requests, "limits": limits}}), DEFAULTS, None)

    for name in ("cpu", "memory"):
        if not (name in requests and name in limits):
            assert amount(found.requests[name]) <= amount(found.limits[name])
        assert found.requests[name] == requests.get(name, found.requests[name])
        assert found.limits[name] == limits.get(name, found.limits[name])
