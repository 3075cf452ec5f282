"""Templates' JSON is measured before it is made."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from minivault.models.sandbox import BoundedEnvironment, Budget, TooCostly, render_bounded

DEEP = "{% set n = namespace(s=['x'] * 50000) %}{% for i in range(200) %}{% set n.s = [n.s] %}{% endfor %}"


def test_white_space_of_json_is_measured_before_it_is_made() -> None:
    template = BoundedEnvironment().bounded(DEEP + "{{ n.s | tojson(indent=16) }}")
    tracemalloc.start()
    try:
        with pytest.raises(TooCostly):
            render_bounded(template, {}, Budget())
        assert tracemalloc.get_traced_memory()[1] < 32 << 20  # it would be 160 million characters
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("indent", [None, 0, 2, 16])
def test_json_that_is_small_is_what_the_library_writes(indent: int | None) -> None:
    value = {"a": [1, {"b": []}, "é"], "c": {}}
    template = BoundedEnvironment().bounded("{{ value | tojson(indent=indent) }}")
    found = render_bounded(template, {"value": value, "indent": indent}, Budget())
    assert found == json.dumps(value, ensure_ascii=False, indent=indent)
