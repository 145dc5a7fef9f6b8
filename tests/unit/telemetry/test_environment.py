import pytest

from agenttask.telemetry.environment import UnusableEndpoint, encode_resource, forwarded, resource_attributes, traces_url, with_endpoint


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        pytest.param({}, None, id="nothing set"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None, id="blank"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces", id="base"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp/"}, "https://c/otlp/v1/traces", id="base with path"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/here"}, "http://c/here", id="for traces, taken as it is"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/x"},
            "http://b/x",
            id="specific wins",
        ),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "True"}, None, id="disabled"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, None, id="no exporter"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "console,otlp"}, "http://c/v1/traces", id="one of several"
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://c/v1/traces", id="protocol"
        ),
    ],
)
def test_the_standard_variables_say_whether_and_where(environ, url):
    assert traces_url(environ) == url


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "'collector:4318' is no URL", id="no scheme"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "write it as http://host:4318", id="no host"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "'grpc' is not spoken here; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
            id="grpc",
        ),
    ],
)
def test_an_endpoint_that_cannot_work_is_told_with_its_remedy(environ, message):
    with pytest.raises(UnusableEndpoint, match=message.replace("(", r"\(")):
        traces_url(environ)


def test_the_complaint_about_an_endpoint_hides_its_password():
    with pytest.raises(UnusableEndpoint) as caught:
        traces_url({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://user:hunter2@c"})
    assert "hunter2" not in str(caught.value)


def test_a_pod_gets_the_way_to_the_collector_and_no_credential():
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secret@collector:4318/x",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=secret",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/secret",
        "OTEL_SERVICE_NAME": "controller",
        "PATH": "/bin",
    }
    assert forwarded(environ) == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/x",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


def test_the_downward_api_names_this_process():
    environ = {"K8S_POD_NAME": "p", "K8S_NAMESPACE_NAME": "ns", "K8S_POD_UID": "", "HOME": "/"}
    assert resource_attributes(environ) == {"k8s.pod.name": "p", "k8s.namespace.name": "ns"}


def test_resource_attributes_are_escaped_for_the_environment():
    assert encode_resource({"k8s.pod.name": "p", "odd": "a,b=c %", "none": ""}) == "k8s.pod.name=p,odd=a%2Cb%3Dc%20%25"


def test_an_endpoint_of_the_settings_yields_to_the_environment():
    assert traces_url(with_endpoint({}, "http://settings:4318")) == "http://settings:4318/v1/traces"
    assert traces_url(with_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://mine:4318"}, "http://settings")) == "http://mine:4318/v1/traces"
    assert traces_url(with_endpoint({}, "")) is None
