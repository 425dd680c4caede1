from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.tool_request import (
    ToolRequest,
    build_request,
    header_problem,
    parameters_problem,
    parse_arguments,
    url_problem,
)
from backend.errors import ToolError

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "people": {"type": "integer", "minimum": 1},
    },
    "required": ["id"],
    "additionalProperties": False,
}


def request_of(url: str = "https://crm.example/v1", method: str = "POST", **given: Any) -> ToolRequest:
    parts: dict[str, Any] = {"headers": {}, "arguments": {}, "variables": {}, "secrets": {}, **given}
    return build_request("book", method=method, url=url, **parts)


def test_arguments_go_into_a_json_body() -> None:
    request = request_of(arguments={"id": "ä/1", "people": 2})
    assert (request.method, request.url) == ("POST", "https://crm.example/v1")
    assert json.loads(request.body or b"") == {"id": "ä/1", "people": 2}
    assert dict(request.headers)["Content-Type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_arguments_go_into_the_query(method: str) -> None:
    arguments = {"q": "a b&c", "n": 2, "on": True, "none": None, "tags": ["x", "y"], "deep": {"a": 1}}
    request = request_of("https://crm.example/v1?fixed=1", method, arguments=arguments)
    assert request.url == (
        "https://crm.example/v1?fixed=1&q=a%20b%26c&n=2&on=true&tags=x&tags=y&deep=%7B%22a%22%3A%201%7D"
    )
    assert request.body is None


def test_variables_and_arguments_fill_the_address_and_are_not_sent_twice() -> None:
    request = request_of(
        "https://crm.example/{{branch}}/orders/{id}?caller={{caller_number}}&day={day}",
        arguments={"id": "a&b?c#d", "day": None, "people": 2},
        variables={"branch": "Zürich", "caller_number": "+15551234567"},
    )
    assert request.url == "https://crm.example/Z%C3%BCrich/orders/a%26b%3Fc%23d?caller=%2B15551234567&day="
    assert json.loads(request.body or b"") == {"people": 2}


@given(value=st.text(max_size=30), other=st.text(max_size=30))
def test_nothing_filled_in_leaves_the_host_or_the_path(value: str, other: str) -> None:
    try:
        request = request_of(
            "https://crm.example/orders/{id}/{{name}}?q={id}",
            arguments={"id": value},
            variables={"name": other},
        )
    except ToolError:
        return
    assert request.url.startswith("https://crm.example/orders/")
    path = request.url.partition("?")[0]
    assert path.count("/") == 5 and not {".", ".."} & set(path.split("/"))
    assert request.url.isascii() and not set(request.url) & set(" \n\r\t#\\@")


@pytest.mark.parametrize("value", ["..", "."])
def test_a_path_cannot_be_climbed(value: str) -> None:
    with pytest.raises(ToolError, match="part of an address"):
        request_of("https://crm.example/orders/{id}/items", arguments={"id": value})


@pytest.mark.parametrize(
    "value", ["../admin", "1/refund", "1\\\\..\\\\2", "..%2Fadmin", "..%5cadmin", "/", "//evil.example/x"]
)
def test_a_value_is_one_segment_of_the_path_even_to_servers_that_decode_it_first(value: str) -> None:
    for filled in ({"arguments": {"id": value}}, {"arguments": {"id": "7"}, "variables": {"branch": value}}):
        with pytest.raises(ToolError, match="cannot hold /"):
            request_of(
                "https://crm.example/{{branch}}/{id}/items", **{"variables": {"branch": "b"}, **filled}
            )
    query = request_of("https://crm.example/find?q={id}", arguments={"id": value}).url
    assert query.startswith("https://crm.example/find?q=") and "/" not in query.partition("?")[2]


def test_what_is_not_known_yet_is_told() -> None:
    with pytest.raises(ToolError, match="branch is not known"):
        request_of("https://crm.example/{{branch}}/x")
    with pytest.raises(ToolError, match="single value"):
        request_of("https://crm.example/{id}", arguments={"id": ["a"]})
    with pytest.raises(ToolError, match="too long"):
        request_of("https://crm.example/{id}", arguments={"id": "a" * 9000})


def test_headers_are_filled_once_and_hold_no_line_break() -> None:
    request = request_of(
        headers={"Authorization": "Bearer {{secret:CRM_KEY}}", "X-Caller": "{{name}}!"},
        variables={"name": "Eve\r\nX-Admin: {{secret:CRM_KEY}}"},
        secrets={"CRM_KEY": "s3cr3t-value"},
    )
    headers = dict(request.headers)
    assert headers["Authorization"] == "Bearer s3cr3t-value"
    assert headers["X-Caller"] == "Eve X-Admin: {{secret:CRM_KEY}}!"
    assert "s3cr3t" not in repr(request)


def test_a_secret_that_is_not_set_names_nothing_to_the_model() -> None:
    with pytest.raises(ToolError) as caught:
        request_of(headers={"Authorization": "{{secret:CRM_KEY}}"})
    assert str(caught.value) == "book is not set up: it cannot be used in this call."


def test_arguments_that_fit() -> None:
    text = '{"id": "7", "day": "2026-02-03", "people": 2}'
    assert parse_arguments("book", text, SCHEMA) == {"id": "7", "day": "2026-02-03", "people": 2}
    assert parse_arguments("book", "", {"type": "object"}) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": ', "not valid JSON"),
        ('{"id": NaN}', "NaN is no JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "one JSON object"),
        ("{}", "'id' is a required property"),
        ('{"id": 7}', "id: 7 is not of type 'string'"),
        ('{"id": "7", "day": "soon"}', "day: 'soon' is not a 'date'"),
        ('{"id": "7", "people": 0}', "people: 0 is less than the minimum"),
        ('{"id": "7", "drop": 1}', "'drop' was unexpected"),
    ],
)
def test_arguments_that_do_not_fit(text: str, words: str) -> None:
    with pytest.raises(ToolError) as caught:
        parse_arguments("book", text, SCHEMA)
    assert words in str(caught.value) and len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://{{host}}/x", "host cannot be filled in"),
        ("https://crm.example:{id}/x", "host cannot be filled in"),
        ("https://crm{id}", "host cannot be filled in"),
        ("https://user:key@crm.example/x", "put keys into headers"),
        ("https://crm.example/x#y", "# part"),
        ("https://crm.example/x?key={{secret:CRM}}", "put it into headers"),
        ("https://crm.example/../x", ".. in its path"),
        ("https://crm.example/{{a b}}", "neither {{variable}} nor {argument}"),
        ("https://crm.example/{ID}", "{ID} is none of parameters.properties"),
        ("https:///x", "is no address"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, words: str) -> None:
    assert words in str(url_problem(url, SCHEMA))


@pytest.mark.parametrize("url", ["https://crm.example", "http://127.0.0.1:9000/{id}/{{name}}?x={day}"])
def test_addresses_that_can_be_used(url: str) -> None:
    assert url_problem(url, SCHEMA) is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("X Y", "a", "no name of a header"),
        ("Host", "a", "by the backend itself"),
        ("X", "a\nb", "line break"),
        ("X", "{{secret:A B}}", "both pairs of braces"),
        ("X", "{{secret:", "both pairs of braces"),
    ],
)
def test_headers_that_cannot_be_sent(name: str, value: str, words: str) -> None:
    assert words in str(header_problem(name, value))
    assert header_problem("X-Key", "Bearer {{ secret:A_B }} {{name}}") is None


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array"}, "must describe an object"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "is not a JSON Schema"),
        (
            {"type": "object", "properties": {"people": {"type": "int"}}},
            "is not a JSON Schema: properties.people.type: 'int' is no type; did you mean 'integer'? "
            "Known are string, integer, number, boolean, array, object, null",
        ),
        (
            {"type": "object", "properties": {"a": {"items": {"type": ["string", "nul"]}}}},
            "properties.a.items.type: 'nul' is no type; known are string,",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "http://x.example/s"}}}, "is elsewhere"),
    ],
)
def test_schemas_that_cannot_be_used(schema: dict[str, Any], words: str) -> None:
    assert words in str(parameters_problem(schema))
    assert parameters_problem(SCHEMA) is None and parameters_problem({}) is None
