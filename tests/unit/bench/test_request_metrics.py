"""Writes, errors and refusals out of a page of the API server's metrics."""

from bench.control import request_metrics


def line(code: int, verb: str, resource: str, count: str, *, subresource: str = "", name: str = "apiserver_request_total") -> str:
    """One line as the API server writes it."""
    labels = {
        "code": code, "component": "apiserver", "dry_run": "", "group": "", "resource": resource, "scope": "resource",
        "subresource": subresource, "verb": verb, "version": "v1",
    }  # fmt: skip
    return f"{name}{{{','.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in labels.items())}}} {count}"


PAGE = "\n".join(
    [
        "# HELP apiserver_request_total [STABLE] Counter of apiserver requests",
        "# TYPE apiserver_request_total counter",
        line(201, "POST", "pods", "30"),
        line(409, "POST", "pods", "2"),
        line(200, "PATCH", "agenttasks", "3e+01", subresource="status"),
        line(200, "PUT", "leases", "99"),
        line(200, "LIST", "pods", "7"),
        line(504, "GET", "nodes", "1"),
        line(201, "POST", "pods", "1000", name="apiserver_request_duration_seconds_count"),
    ]
)


def test_writes_are_counted_by_what_was_written() -> None:
    assert request_metrics.writes(PAGE) == {"POST pods": 32, "PATCH agenttasks/status": 30}


def test_any_5xx_is_an_error() -> None:
    assert request_metrics.server_errors(PAGE) == 1


def test_a_refused_write_is_told_by_its_code() -> None:
    assert request_metrics.refusals(PAGE) == {"409 POST pods": 2}


def test_an_empty_page_has_nothing() -> None:
    assert (request_metrics.writes(""), request_metrics.server_errors(""), request_metrics.refusals("")) == ({}, 0, {})
