"""Are recorded vectors what the model gives again: what can be compared, and the comparison. Pure.

Knows nothing of how a replay is run; :mod:`minivault.service.replay` has what holds for every call.
"""

from __future__ import annotations

import json
from itertools import accumulate, pairwise

from minivault.embedding import Embedded, EmbeddingRequest
from minivault.engine.embedding import EmbeddingInfo
from minivault.generation import FinishReason
from minivault.service.replay import ReplayResult, ReplayVerdict
from minivault.vault.reader import CallDetail
from minivault.vault.record import Pin


def is_embedding(recorded: CallDetail) -> bool:
    """Whether a recorded call gave vectors rather than an answer."""
    return "embedding" in (recorded.intent.get("parameters") or {})


def recorded_request(recorded: CallDetail, request_id: str) -> EmbeddingRequest:
    """The request that makes the vectors of a recorded call again."""
    counts = recorded.intent["parameters"]["embedding"]["token_counts"]
    ids = recorded.prompt_token_ids or ()
    texts = tuple(tuple(ids[start:end]) for start, end in pairwise((0, *accumulate(counts))))
    return EmbeddingRequest(
        token_ids=texts, model=recorded.call.model, request_id=request_id, surface="replay", store=recorded.call.store
    )


def why_vectors_not_comparable(recorded: CallDetail, now: Pin, known: EmbeddingInfo) -> str | None:
    """Beyond what holds for every call: the reason why making the vectors again would prove nothing."""
    if recorded.call.finish_reason != FinishReason.STOP or not recorded.call.response:
        return "no vectors of it are on record"
    if (recorded.intent.get("pin") or {}).get("template_digest") != now.template_digest:
        return "it was pooled in another way"
    if max(recorded.intent["parameters"]["embedding"]["token_counts"], default=0) > known.max_tokens:
        return "a text of it does not fit the KV cache here: raise kv_cache_memory"
    return None


def compare_vectors(recorded: CallDetail, again: Embedded) -> ReplayResult:
    """Compare by digest: vectors have no first token that differs, so a mismatch names none."""
    digest = json.loads(recorded.call.response or "{}").get("digest")
    verdict = ReplayVerdict.MATCH if digest == again.digest else ReplayVerdict.MISMATCH
    return ReplayResult(verdict, compared_tokens=again.prompt_tokens, record=again.record)
