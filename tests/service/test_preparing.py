"""What requests need before they run: in which thread the form of their answers is read."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from minivault.access.caller import Caller
from minivault.generation import GenerationRequest, SamplingParams
from minivault.models.prompt import LONG_TEXT
from tests.fakes import make_bench


class WatchedForm(dict[str, Any]):
    """A response_format that notes who reads it."""

    def __init__(self) -> None:
        super().__init__(type="text")
        self.threads: set[str] = set()

    def get(self, key: str, default: Any = None, /) -> Any:
        self.threads.add(threading.current_thread().name.partition("_")[0])
        return super().get(key, default)


@pytest.mark.parametrize(("size", "threads"), [(10, set()), (LONG_TEXT, {"minivault-grammar"})])
async def test_only_long_schemas_are_read_off_the_event_loop(size: int, threads: set[str]) -> None:
    form = WatchedForm()
    sampling = SamplingParams(max_tokens=2)
    request = GenerationRequest(prompt="hi", response_format=form, sampling=sampling, raw_request=b"x" * size)
    await make_bench().service.generate(request, Caller("10.0.0.1"))
    assert form.threads - {threading.current_thread().name} == threads
