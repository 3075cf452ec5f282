"""The items that a response was made from, as ``GET /v1/responses/{id}/input_items`` lists them.

Knows nothing of routes, or of how earlier requests are found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from minivault.api.wire.responses import InputItem, ResponsesRequest
from minivault.errors import InvalidRequest

Order = Literal["asc", "desc"]

_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


class ItemListBody(BaseModel):
    """Some of the items, and whether there are more."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    has_more: bool
    first_id: str | None
    last_id: str | None


def listed_items(body: ResponsesRequest, answer_id: str) -> list[dict[str, Any]]:
    """The items of ``input``, which refers to nothing. An item that was sent without an id has one that follows from
    its place, with an ``i`` that tells it from those of answers."""
    said = body.input
    asked = [InputItem.model_validate({"role": "user", "content": said})] if isinstance(said, str) else said
    return [_listed(item, f"{answer_id}_i{place}") for place, item in enumerate(asked)]


def _listed(item: InputItem, name: str) -> dict[str, Any]:
    kind = item.type or "message"
    members = item.model_dump(exclude_none=True) | {"type": kind, "id": item.id or f"{_PREFIXES[kind]}_{name}"}
    if kind == "message":
        members["content"] = _parts(item)
    if kind == "reasoning":
        return {"summary": []} | members
    return members | {"status": item.status or "completed"}


def _parts(item: InputItem) -> list[dict[str, Any]]:
    """Text alone is a part, of the type that its role calls for."""
    if not isinstance(item.content, str):
        return [part.model_dump(exclude_none=True) for part in item.content or ()]
    if item.role == "assistant":
        return [{"type": "output_text", "text": item.content, "annotations": []}]
    return [{"type": "input_text", "text": item.content}]


def page_of(items: Sequence[dict[str, Any]], order: Order, after: str | None, limit: int) -> dict[str, Any]:
    """``limit`` of ``items``, which are oldest first, behind the one whose id is ``after``.

    Raises:
        InvalidRequest: there is no item of this id.
    """
    wanted = list(items if order == "asc" else reversed(items))
    if after is not None:
        place = next((number for number, item in enumerate(wanted) if item["id"] == after), None)
        if place is None:
            raise InvalidRequest("after: must be the id of an item that is listed", param="after")
        wanted = wanted[place + 1 :]
    shown = wanted[:limit]
    return {
        "object": "list",
        "data": shown,
        "has_more": len(wanted) > limit,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
