"""Values arrive as they are, a missing one fails with what is there, and nothing grows past its bound."""

import contextlib
import tracemalloc
from collections import deque
from collections.abc import Iterator
from types import MappingProxyType

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api.errors import AgentTaskError, InvalidTemplate, OutputTooLarge, StepFailed
from agenttask.domain.language import Scope
from agenttask.domain.rendering import MAX_TREE_DEPTH, render, render_tree
from agenttask.domain.templates import check

MIB = 1 << 20
EDITS = [{"file": "a.md", "size": 3, "meta": {"by": "x"}}, {"file": "b.md", "size": 5, "meta": {"by": "y"}}]
PLAN = {"edits": EDITS, "items": ["i1", "i2"], "ok": True, "nothing": None, "empty": [], "words": "two words", "n": 7, "f": 0.5}
VALUES = {
    "params": {"file": "README.md", "my-file": "x"},
    "steps": {
        "plan": {"text": "line one\nline two\n", "json": PLAN, "files": MappingProxyType({"a/b.md": "B"}), "exitCode": None},
        "write-tests": {"text": "done", "json": None, "files": {}, "exitCode": 0},
    },
    "task": {"name": "review", "namespace": "team", "uid": "u-1"},
    "attempt": 2,
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("no template, { and } and %", "no template, { and } and %"),
        ("{{ params.file }} by {{ task.name }}, attempt {{ attempt }}\n", "README.md by review, attempt 2\n"),
        ("{{ params['my-file'] }}{{ steps['write-tests'].text }}{{ steps['write-tests'].exitCode }}", "xdone0"),
        ("{{ steps.plan.files['a/b.md'] }}", "B"),
        ("{{ steps.plan.json.items }}{{ steps.plan.json.edits.0.file }}{{ steps.plan.json.items[-1] }}", '["i1", "i2"]a.mdi2'),
        (
            "{{ steps.plan.json.ok }} {{ steps.plan.json.nothing }} {{ steps.plan.json.f }} {{ steps.plan.files }}",
            'true null 0.5 {"a/b.md": "B"}',
        ),
        ("{{ [attempt, 'é', ('a', true)] | tojson }}{{ {'k': '<b>'} | tojson(indent=1) }}", '[2, "é", ["a", true]]{\n "k": "<b>"\n}'),
        ("{{ 'a' ~ attempt ~ none ~ params.file }}", "a2nullREADME.md"),
        ("{{ 'yes' if attempt == 2 and not steps.plan.json.empty else 'no' }}", "yes"),
        ("{% if attempt == 1 %}one{% elif attempt in (2, 3) %}two{% else %}more{% endif %}", "two"),
        ("{% for e in steps.plan.json.edits %}{{ loop.index }}{{ e.file }}{{ '' if loop.last else ',' }}{% endfor %}", "1a.md,2b.md"),
        ("{% for e in steps.plan.json.edits if e.size > 3 %}{{ loop.index0 }}{{ loop.first }}{{ e.file }}{% endfor %}", "0trueb.md"),
        ("{% for e in steps.plan.json.empty %}x{% else %}none{% endfor %}", "none"),
        ("{% for k in steps.plan.files %}{{ k }}={{ steps.plan.files[k] }}{% endfor %}", "a/b.md=B"),
        (
            "{% for e in steps.plan.json.edits %}{% for k in e.meta %}{{ loop.index }}{{ k ~ e.meta[k] }}{% endfor %}{% endfor %}",
            "1byx1byy",
        ),
        ("{{ steps.plan.json.nope | default('d') }}{{ steps.plan.json.empty | default('e', true) }}{{ '' | default('f') }}", "de"),
        ("{{ steps.plan.json.edits | map(attribute='meta.by') | join('+') }}", "x+y"),
        ("{{ steps.plan.json.edits | map(attribute='nope', default='-') | join }}", "--"),
        ("{{ steps.plan.json.edits | join(', ', attribute='size') }}", "3, 5"),
        ("{{ steps.plan.json.edits | selectattr('size', 'ge', 4) | map(attribute='file') | first }}", "b.md"),
        ("{{ steps.plan.json.edits | rejectattr('file', 'in', 'a.md') | length }}", "1"),
        ("{{ steps.plan.json.edits | selectattr('nope', 'defined') | length }}", "0"),
        ("{{ steps.plan.json.edits | selectattr('nope', 'undefined') | length }}", "2"),
        ("{{ steps.plan.json.edits | selectattr('size') | rejectattr('size', 'none') | rejectattr('size', 'true') | length }}", "2"),
        ("{{ steps.plan.json.items | last }}{{ steps.plan.json.words | first }}{{ steps.plan.files | last }}", "i2ta/b.md"),
        ("{{ steps.plan.json.words | length }}{{ steps.plan.json | length }}", "98"),
        ("{{ '  a ' | trim }}{{ 'xax' | trim('x') }}{{ 'aß' | upper }}{{ 'AB' | lower }}", "aaASSab"),
        ("{{ 'one two three four' | truncate(9) }}|{{ 'one two three four' | truncate(9, true, '…') }}", "one...|one two …"),
        ("{{ steps.plan.text | indent }}|{{ 'a\n\nb' | indent(2, true, true) }}", "line one\n    line two\n|  a\n  \n  b"),
        ("{# note #}{% raw %}{{ raw }}{% endraw %}", "{{ raw }}"),
        ("{{ 1 < attempt <= 2 }}{{ -1 }}{{ 'a' == 'b' or 'c' }}", "true-1c"),
    ],
)
def test_a_template_renders_its_values(source: str, text: str):
    assert render(source, VALUES) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ params.file | upper }}-{{ ' x ' | trim }}",
        "{% for e in steps.plan.json.edits %}{{ loop.index }}:{{ e.file }};{% endfor %}",
        "{{ 'a\nb\n\nc' | indent(3) }}|{{ 'a\nb\n' | indent(3, first=true) }}|{{ 'a\n\n b' | indent(2, blank=true) }}",
        "{{ 'the quick brown fox jumps' | truncate(12) }}|{{ 'thequickbrownfox' | truncate(8) }}|{{ 'abcdefgh' | truncate(4) }}",
        "{{ steps.plan.json.edits | map(attribute='file') | join(' ') }}",
        "{%- if attempt -%} a {%- endif %} b",
        "{{ steps.plan.json.edits | selectattr('size', 'lt', 4) | map(attribute='file') | first }}",
        "{{ 'a' ~ 'b' if params.file != 'x' else 'c' }}",
    ],
)
def test_strings_come_out_as_from_jinja2_itself(source: str):
    environment = jinja2.Environment(keep_trailing_newline=True)
    assert render(source, VALUES) == environment.from_string(source).render(VALUES)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ params.nope }}", "params has no 'nope'; it has: file, my-file"),
        ("{{ steps.nope.text }}", "steps has no 'nope'; it has: plan, write-tests"),
        ("{{ steps.plan.json.edit }}", "steps.plan.json has no 'edit'; it has: edits, empty, f, items, n, nothing, ok, words"),
        ("{{ steps.plan.json.edits[9] }}", "steps.plan.json.edits has no item 9; it has 2"),
        ("{{ steps.plan.json['edits'].file }}", "steps.plan.json['edits'] is a list, it has no 'file'"),
        ("{{ steps.plan.json.edits[attempt].file }}", "steps.plan.json.edits has no item 2; it has 2"),
        ("{{ steps.plan.json[params.file].file }}", "steps.plan.json has no 'README.md'; it has: edits, "),
        ("{{ steps['write-tests'].json.edits }}", "steps['write-tests'].json is null, it has no 'edits'"),
        ("{{ steps.plan.json.words.x }}", "steps.plan.json.words is a string, it has no 'x'"),
        ("{{ steps.plan.json.n.x }}{{ attempt }}", "steps.plan.json.n is a number, it has no 'x'"),
        ("{{ steps.plan.json.ok[0] }}", "steps.plan.json.ok is a boolean, it has no 0"),
        ("{{ steps.plan.json.items[[1]] }}", "steps.plan.json.items is a list, it has no [1]"),
        ("{{ (params.file | upper).x }}", "the value is a string, it has no 'x'"),
        ("{% if steps.plan.json.nope %}a{% endif %}", "has no 'nope'"),
        ("{{ steps.plan.json.nope == 1 }}", "has no 'nope'"),
        ("{{ 'a' ~ steps.plan.json.nope }}", "has no 'nope'"),
        ("{% for a in steps.plan.json.nope %}{% endfor %}", "has no 'nope'"),
        ("{{ steps.plan.json.nope | length }}", "has no 'nope'"),
        ("{{ steps.plan.json.nope.a | default(1) }}", "has no 'nope'"),
        ("{{ steps.plan.json.edits | map(attribute='meta.nope') | join }}", "an item has no 'nope'; it has: by"),
        ("{{ steps.plan.json.edits | selectattr('nope') | length }}", "an item has no 'nope'"),
        ("{{ steps.plan.json.empty | first }}", "a list is empty, it has no first item"),
        ("{{ {} | first }}", "a mapping is empty, it has no first item"),
        ("{{ [steps.plan.json.nope] }}", "steps.plan.json has no 'nope'"),
        ("{{ '' | last }}", "a string is empty, it has no last item"),
        ("{{ attempt | first }}", "only a string, a list or a mapping has a first and a last item, not a number"),
        ("{{ none | length }}", "has a length, not null"),
        ("{% for a in params.file %}{% endfor %}", "only a list or a mapping can be gone through, not a string"),
        ("{{ params.file | join('-') }}", "can be gone through, not a string"),
        ("{{ params.file < 1 }}", "the template cannot be rendered with these values: '<' not supported"),
        ("{{ steps.plan.json.edits | selectattr('file', 'gt', 1) | length }}", "not supported between"),
        ("{{ 1 in attempt }}", "cannot be rendered"),
    ],
)
def test_a_missing_or_wrong_value_fails_the_step_and_says_what_there_is(source: str, message: str):
    with pytest.raises(StepFailed) as caught:
        render(source, VALUES, field="chat.prompt")
    assert str(caught.value).startswith("chat.prompt: ")
    assert message in str(caught.value)


def test_values_that_are_not_given_are_missing():
    with pytest.raises(StepFailed, match="'task' is undefined"):
        render("{{ task.name }}", {"params": {}})


def test_half_a_surrogate_pair_in_a_value_fails_the_step():
    with pytest.raises(StepFailed, match="surrogates not allowed"):
        render("{{ params.a }}", {"params": {"a": "\ud800"}})


def test_something_that_is_no_json_fails_the_step():
    with pytest.raises(StepFailed, match="a object cannot be written as JSON"):
        render("{{ params.a }}", {"params": {"a": object()}})


def test_any_sequence_is_a_list():
    values = {"params": {"a": deque(["x", "y"]), "b": (1, 2)}}
    assert render("{{ params.a }}{{ params.b }}{{ params.a | join }}{{ params.a[1] }}", values) == '["x", "y"][1, 2]xyy'


def test_a_value_nested_too_deeply_fails_the_step():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(StepFailed, match="nested too deeply"):
        render("{{ params.a }}", {"params": {"a": deep}})
    while deep:  # taken apart by hand: freeing it at once would recurse
        deep = deep[0]  # type: ignore[assignment]  # a list of lists


@pytest.mark.parametrize(
    "source", ["{{ 'a' * 9 }}", "{{ params.file.upper() }}", "{% set a = 1 %}", "{{ params.__class__ }}", "{{ cycler }}"]
)
def test_rendering_refuses_by_itself_what_the_language_does_not_list(source: str):
    with pytest.raises(InvalidTemplate) as caught:
        render(source, VALUES, field="output")
    assert caught.value.field == "output"


@pytest.mark.parametrize("key", ["keys", "items", "values", "get", "copy", "pop", "format", "upper", "append", "__class__x"])
def test_no_method_of_python_is_ever_reached(key: str):
    owner = "steps.plan.files" if key in dir(dict) else "params.file" if key in dir(str) else "steps.plan.json.items"
    with pytest.raises(AgentTaskError):
        render(f"{{{{ {owner}.{key} }}}}", VALUES)


def test_a_value_is_never_read_as_a_template():
    assert render("{{ params.a }}", {"params": {"a": "{{ 1 + 1 }}{% for"}}) == "{{ 1 + 1 }}{% for"


class TestBounds:
    """One MiB in, at most one MiB out, and never much more in between."""

    BIG = {"params": {"a": "x" * MIB, "lines": "\n" * (MIB // 2)}, "steps": {"s": {"json": list(range(2000)), "text": "x" * 1000}}}

    @pytest.fixture(autouse=True)
    def bounded_memory(self) -> Iterator[None]:
        tracemalloc.start()
        yield
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 * MIB

    def test_a_text_of_just_the_limit_is_rendered(self):
        assert len(render("{{ params.a }}", self.BIG)) == MIB

    @pytest.mark.parametrize(
        "source",
        [
            pytest.param("x{{ params.a }}", id="one byte more"),
            pytest.param("{{ params.a }}{{ params.a }}", id="two outputs"),
            pytest.param("{{ params.a" + " ~ params.a" * 500 + " }}", id="concatenation"),
            pytest.param("{% for i in steps.s.json %}{{ params.a }}{% endfor %}", id="loop"),
            pytest.param("{% for i in steps.s.json %}{{ params.a | upper | length }}{% endfor %}", id="work in a loop"),
            pytest.param("{% for i in steps.s.json %}{{ params.a == params.a ~ '' }}{% endfor %}", id="comparison in a loop"),
            pytest.param("{% for i in steps.s.json %}{{ 'y' in params.a }}{% endfor %}", id="search in a loop"),
            pytest.param("{% for i in steps.s.json %}{% for j in steps.s.json %}{% endfor %}{% endfor %}", id="nested loops"),
            pytest.param("{{ steps.s.json | join('" + "x" * 1000 + "') }}", id="join"),
            pytest.param("{{ params.lines | indent(10000, blank=true) }}", id="indent"),
            pytest.param("{{ steps.s.json | tojson(indent=16) | indent(10000) }}", id="indented JSON"),
            pytest.param("{{ [params.a, params.a] | tojson }}", id="JSON"),
            pytest.param("{{ [params.a, params.a] }}", id="a list of long strings"),
            pytest.param("{{ params.lines | tojson | tojson | tojson }}", id="escapes of escapes"),
            pytest.param(
                "{% for i in steps.s.json %}{{ steps.s.json | map(attribute='x', default=1) | length }}{% endfor %}", id="map in a loop"
            ),
            pytest.param("{{ (params.a ~ 'ß') | upper }}", id="a string built of a long one"),
        ],
    )
    def test_a_bomb_is_refused_before_it_is_built(self, source: str):
        with pytest.raises(OutputTooLarge):
            render(source, self.BIG)

    def test_bytes_count_and_not_letters(self):
        with pytest.raises(OutputTooLarge, match="more than 10 bytes"):
            render("{{ params.a }}", {"params": {"a": "é" * 6}}, limit=10)

    def test_constants_are_not_folded_while_compiling(self):
        with pytest.raises(OutputTooLarge):
            render("{{ 'a\n\n\n' | indent(10000, blank=true) | indent(10000) | tojson }}", {}, limit=1000)


def test_a_config_is_rendered_with_its_values_and_not_its_keys():
    config = {"paths": ("{{ params.file }}", "b"), "{{ k }}": {"n": 3, "flag": True, "none": None, "text": "{{ attempt }}"}}
    assert render_tree(config, VALUES) == {
        "paths": ["README.md", "b"],
        "{{ k }}": {"n": 3, "flag": True, "none": None, "text": "2"},
    }


def test_a_failure_in_a_config_names_the_path_of_its_string():
    with pytest.raises(StepFailed, match=r"^spec\.steps\[0\]\.exec\.command\[1\]: params has no 'x'"):
        render_tree({"command": ["a", "{{ params.x }}"]}, VALUES, field="spec.steps[0].exec")


def test_the_path_begins_at_the_config_where_no_field_is_given():
    with pytest.raises(StepFailed, match=r"^command\[0\]: "):
        render_tree({"command": ["{{ params.x }}"]}, VALUES)


def test_the_limit_is_for_a_whole_config():
    with pytest.raises(OutputTooLarge):
        render_tree(["{{ params.file }}", "{{ params.file }}"], VALUES, limit=15)


def test_a_config_nested_too_deeply_is_refused():
    config: object = "x"
    for _ in range(MAX_TREE_DEPTH + 1):
        config = [config]
    with pytest.raises(StepFailed, match="nested more than 64 deep"):
        render_tree(config, VALUES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
CHAINS = st.lists(
    st.sampled_from(
        [
            *(".a", "[0]", "[-1]", " | first", " | last", " | length", " | join(',')", " | join('', 'a')", " | map(attribute='a')"),
            *(" | default('d')", " | default([], true)", " | tojson", " | tojson(indent=2)", " | trim", " | upper", " | truncate(9)"),
            *(" | indent(2)", " | selectattr('a', 'eq', 1)", " | rejectattr('a')", " ~ steps.s.json", " == 1", " in steps.s.json", " < 2"),
        ]
    ),
    max_size=5,
).map("".join)


@given(JSON, CHAINS)
@settings(max_examples=300, deadline=None)
def test_nothing_but_a_typed_error_escapes_from_any_value(value: object, chain: str):
    values = {"params": {}, "steps": {"s": {"json": value}}, "attempt": 1}
    for source in (f"{{{{ steps.s.json{chain} }}}}", f"{{% for a in steps.s.json{chain} %}}{{{{ a }}}}{{{{ loop.index }}}}{{% endfor %}}"):
        with contextlib.suppress(AgentTaskError):
            assert isinstance(render(source, values), str)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{{ " + "'a' if attempt == 1 else " * 28 + "'z' }}", id="inline ifs"),
        pytest.param("{% if attempt %}" * 29 + "z" + "{% endif %}" * 29, id="blocks"),
        pytest.param("{{ params.file" + " | upper" * 28 + " }}", id="filters"),
        pytest.param("{{ " + "[" * 28 + "attempt" + "]" * 28 + " }}", id="lists"),
        pytest.param("{{ " + "('a' ~ " * 28 + "attempt" + ")" * 28 + " }}", id="concatenations"),
        pytest.param("{{ attempt" + " == 2 and attempt" * 28 + " }}", id="conjunctions"),
        pytest.param("{{ " + "(attempt == " * 14 + "1" + ")" * 14 + " }}", id="comparisons"),
        pytest.param("{{ " + "steps.plan.json[" * 12 + "'ok'" + "]" * 12 + " | default('z') }}", id="items of items"),
    ],
)
def test_whatever_the_language_lets_pass_also_compiles(source: str):
    check(source, field="x", scope=Scope(params=VALUES["params"], steps=VALUES["steps"]))
    try:
        assert render(source, VALUES)
    except StepFailed as error:
        assert "has no" in str(error)  # noqa: PT017 - either is fine, a failure to compile is not
