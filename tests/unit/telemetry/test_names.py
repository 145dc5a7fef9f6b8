from agenttask.telemetry.names import SPANS, Attribute, PipelineResult, call_span, step_span


def test_every_attribute_is_described_and_stands_on_a_span_or_the_resource():
    on_spans = {attribute for span in SPANS for attribute in span.attributes}
    assert all(attribute.describe().endswith(".") for attribute in Attribute)
    assert set(Attribute) - on_spans == {Attribute.CONTAINER}


def test_every_parent_is_a_span_of_the_table():
    names = {span.name for span in SPANS}
    assert [span.parent for span in SPANS if span.parent not in names] == [""]


def test_span_names_have_only_the_kind_or_the_model_of_the_endpoint():
    assert step_span("exec") == "step exec"
    assert call_span("chat", "small-1") == "chat small-1"


def test_results_are_those_of_the_convention():
    assert set(PipelineResult) <= {"success", "failure", "error", "timeout", "cancellation", "skip"}
