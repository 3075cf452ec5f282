"""API keys over HTTP, for admins: ``/admin/keys``. The first admin's key is made on the server's machine.

Parses and answers; who may is decided at the entrance. Knows nothing of how keys are kept.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from minivault.access.key_file import ApiKey, KeyTerms
from minivault.access.keys import KeyStore, NewKey
from minivault.api import schema
from minivault.api.native import caller_of, json_response, parsed
from minivault.api.query import only_known
from minivault.api.wire.keys import ApiKeyBody, ApiKeysBody, ChangeKeyBody, CreateKeyBody, NewApiKeyBody, RotateKeyBody
from minivault.telemetry.logging import get_logger

router = APIRouter(prefix="/admin/keys", tags=["admin"], dependencies=[Depends(only_known)])
logger = get_logger(__name__)

KeyId = Annotated[str, Path(min_length=1, max_length=64, description="Its id, or its name.")]
_SECRET = {"cache-control": "no-store"}


@router.get(
    "",
    summary="All API keys, without their secrets",
    responses={200: schema.json_answer(ApiKeysBody, "The keys."), **schema.error_responses(403, 429, 500, 503)},
)
async def list_keys(request: Request) -> Response:
    """Those that were revoked too, since records name them."""
    keys = _keys(request)
    return json_response({"keys": [_facts(keys, key) for key in keys.list()]})


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    responses={
        201: schema.json_answer(NewApiKeyBody, "The key, with its secret, this once."),
        **schema.error_responses(400, 403, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra=schema.json_body(CreateKeyBody),
)
async def create(request: Request) -> Response:
    """`key` in the answer is not to be had again: only its SHA-256 is kept."""
    body, _ = await parsed(request, CreateKeyBody)
    keys = _keys(request)
    made = await asyncio.to_thread(keys.create, body.name, body.over(KeyTerms()))
    _note(request, "key made", made.key)
    return _shown_once(keys, made, 201)


@router.get(
    "/{key_id}",
    summary="One key, without its secret",
    responses={200: schema.json_answer(ApiKeyBody, "The key."), **schema.error_responses(403, 404, 422, 429, 500, 503)},
)
async def show(request: Request, key_id: KeyId) -> Response:
    """What it allows, and whether it is active."""
    keys = _keys(request)
    return json_response(_facts(keys, keys.get(key_id)))


@router.patch(
    "/{key_id}",
    summary="Change what a key allows",
    responses={
        200: schema.json_answer(ApiKeyBody, "The key as it is now."),
        **schema.error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra=schema.json_body(ChangeKeyBody),
)
async def change(request: Request, key_id: KeyId) -> Response:
    """What is left out stays. Takes effect with the key's next request."""
    body, _ = await parsed(request, ChangeKeyBody)
    keys = _keys(request)
    key = await asyncio.to_thread(keys.change, key_id, body.over, body.name)
    _note(request, "key changed", key)
    return json_response(_facts(keys, key))


@router.post(
    "/{key_id}/rotate",
    summary="Give a key a new secret",
    responses={
        200: schema.json_answer(NewApiKeyBody, "The key, with its new secret, this once."),
        **schema.error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra=schema.json_body(RotateKeyBody, required=False),
)
async def rotate(request: Request, key_id: KeyId) -> Response:
    """Its id, its records and its limits stay. The former secret ends at once, or after `grace_seconds`."""
    body, _ = await parsed(request, RotateKeyBody, may_be_empty=True)
    keys = _keys(request)
    made = await asyncio.to_thread(keys.rotate, key_id, body.grace_seconds)
    _note(request, "key rotated", made.key)
    return _shown_once(keys, made, 200)


@router.delete(
    "/{key_id}",
    summary="Revoke a key",
    responses={
        200: schema.json_answer(ApiKeyBody, "The key, revoked."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def revoke(request: Request, key_id: KeyId) -> Response:
    """For good. It stays on the list, and its records stay; answers that are under way end."""
    keys = _keys(request)
    key = await asyncio.to_thread(keys.revoke, key_id)
    _note(request, "key revoked", key)
    return json_response(_facts(keys, key))


def _keys(request: Request) -> KeyStore:
    keys: KeyStore = request.app.state.access.keys
    return keys


def _facts(keys: KeyStore, key: ApiKey) -> dict[str, Any]:
    state = "revoked" if key.revoked_at is not None else "active" if keys.is_active(key) else "expired"
    return {**key.as_dict(), "state": state}


def _shown_once(keys: KeyStore, made: NewKey, status: int) -> Response:
    return json_response({**_facts(keys, made.key), "key": made.text}, status, _SECRET)


def _note(request: Request, event: str, key: ApiKey) -> None:
    """Who did what to which key: by their public ids."""
    logger.info(event, key=key.id, by=caller_of(request).api_key_id)
