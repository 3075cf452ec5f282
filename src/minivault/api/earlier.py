"""Responses of the past, read again from the vault: what a request goes on from, refers to, or asks to see.

Knows nothing of routes or of engines.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from minivault.api.again import parser_of
from minivault.api.health import service_of
from minivault.api.native import caller_of
from minivault.api.wire import responses_answers as answers
from minivault.api.wire.lenient import whole_said
from minivault.api.wire.responses import ID_PREFIX, SURFACE, InputItem, ResponsesRequest
from minivault.api.wire.responses_items import listed_items
from minivault.errors import InvalidRequest, UnknownRecord
from minivault.generation import FinishReason, Message
from minivault.models.tool_calls import ToolCallParser
from minivault.service import EarlierCall

MAX_EARLIER = 128
"""Responses that one may go back over."""
MAX_EARLIER_BYTES = 8 << 20
"""Of their requests and answers together."""
NO_SUCH = "no such response in the vault, or nothing is kept of it"
NO_SUCH_ITEM = "no such item in the vault, or nothing is kept of it"

_OF_ANSWER = re.compile(r"(?:msg|fc|rs)_(.{1,160})_([0-9]{1,4})")
"""Ids of the items of answers: the call, and which of its items."""


class Earlier:
    """What one request goes back to. Each response is read once, and all of them are bounded together."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._room = MAX_EARLIER_BYTES
        self._read: dict[str, tuple[EarlierCall, ResponsesRequest]] = {}

    async def turns(self, response_id: str | None) -> list[Message]:
        """The turns of the responses that ``response_id`` went on from, and its own, oldest first.

        Raises:
            UnknownRecord: one of them is not there.
            InvalidRequest: they are too many, or too long.
        """
        turns: list[tuple[Message, ...]] = []
        for call, body in await self._chain(response_id):
            turns.append(await asyncio.to_thread(_turns_of, call, await self.resolved(body)))
        return [turn for some in turns for turn in some]

    async def items(self, call: EarlierCall) -> list[dict[str, Any]]:
        """The items that a response was made from, oldest first. Raises as :meth:`turns`."""
        body = await asyncio.to_thread(body_of, call)
        found: list[dict[str, Any]] = []
        for earlier, asked in await self._chain(body.previous_response_id):
            found += listed_items(await self.resolved(asked), earlier.id)
            found += await asyncio.to_thread(output_of, earlier, asked)
        return found + listed_items(await self.resolved(body), call.id)

    async def resolved(self, body: ResponsesRequest) -> ResponsesRequest:
        """``body`` with the items themselves where it refers to items of earlier answers.

        Raises:
            UnknownRecord: one of them is not there.
            InvalidRequest: they are of too many responses, or too long ones.
        """
        if isinstance(body.input, str) or not any(item.refers for item in body.input):
            return body
        items = [await self._item(item, place) if item.refers else item for place, item in enumerate(body.input)]
        return body.model_copy(update={"input": items})

    async def _item(self, item: InputItem, place: int) -> InputItem:
        param = f"input.{place}.id"
        found = _OF_ANSWER.fullmatch(item.id or "")
        if found is None:
            raise UnknownRecord(NO_SUCH_ITEM, param=param)
        try:
            call, body = await self._one(found[1], param)
        except UnknownRecord:
            raise UnknownRecord(NO_SUCH_ITEM, param=param) from None
        output = await asyncio.to_thread(output_of, call, body)
        whole = next((one for one in output if one["id"] == item.id), None)
        if whole is None:
            raise UnknownRecord(NO_SUCH_ITEM, param=param)
        return InputItem.model_validate(whole)

    async def _chain(self, response_id: str | None) -> list[tuple[EarlierCall, ResponsesRequest]]:
        """``response_id`` and all that it went on from, oldest first."""
        chain: list[tuple[EarlierCall, ResponsesRequest]] = []
        while response_id is not None:
            chain.append(await self._one(call_id_of(response_id), "previous_response_id"))
            response_id = chain[-1][1].previous_response_id
        return chain[::-1]

    async def _one(self, call_id: str, param: str) -> tuple[EarlierCall, ResponsesRequest]:
        if call_id not in self._read:
            name = param.partition(".")[0]
            if len(self._read) == MAX_EARLIER:
                raise InvalidRequest(f"{name}: at most {MAX_EARLIER} responses can be gone back over", param=name)
            call = await call_of(self._request, call_id, param=param)
            self._room -= len(call.body) + len(call.response.encode())
            if self._room < 0:
                bound = f"the responses gone back over may have {MAX_EARLIER_BYTES} bytes together"
                raise InvalidRequest(f"{name}: {bound}", param=name)
            self._read[call_id] = (call, await asyncio.to_thread(body_of, call))
        return self._read[call_id]


def call_id_of(response_id: str) -> str:
    """The id of its call in the vault; of what is no response, one that no call has."""
    return response_id.removeprefix(ID_PREFIX) if response_id.startswith(ID_PREFIX) else ""


async def call_of(request: Request, call_id: str, *, param: str | None = None, whole: bool = True) -> EarlierCall:
    """The call of a response that may be read by who asks. ``whole``: only if its answer came to its end.

    Raises:
        UnknownRecord: there is none, or nothing is kept of it.
    """
    owner = caller_of(request).owner
    if call_id:
        try:
            return await service_of(request).records.earlier(call_id, SURFACE, owner=owner, whole=whole)
        except UnknownRecord:
            raise UnknownRecord(NO_SUCH, param=param) from None
    raise UnknownRecord(NO_SUCH, param=param)


def body_of(call: EarlierCall) -> ResponsesRequest:
    """What was asked then. Blocking: it may be long. A later version may no longer read it.

    Raises:
        UnknownRecord: it cannot be read.
    """
    try:
        return ResponsesRequest.model_validate(json.loads(call.body))
    except (ValidationError, ValueError):
        raise UnknownRecord("this version cannot read that response any more") from None


def output_of(call: EarlierCall, body: ResponsesRequest) -> list[dict[str, Any]]:
    """The items of a recorded answer. Blocking."""
    complete = call.finish_reason is FinishReason.STOP
    return answers.whole_output(call.id, call.response, _parser(call, body), complete=complete)


def _turns_of(call: EarlierCall, body: ResponsesRequest) -> tuple[Message, ...]:
    """The turns of one response, its answer the last. Blocking."""
    said = whole_said(call.response, _parser(call, body))
    return (*body.turns, Message("assistant", said.text, tool_calls=said.calls, thinking=said.thinking))


def _parser(call: EarlierCall, body: ResponsesRequest) -> ToolCallParser | None:
    several = body.parallel_tool_calls is not False
    return parser_of(call, body.offered, several=several, must=body.must_call)
