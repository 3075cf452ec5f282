"""The guide's network: a plain Llama decoder in PyTorch, with Hugging Face parameter names.

Knows the architecture and nothing else: no tokenizer, no corpus, no optimiser, no file format. Several samples
may share a row of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, silu


@dataclass(frozen=True)
class GuideShape:
    """Sizes of the network; every matrix width is a multiple of 32."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 768
    layers: int = 6
    attention_heads: int = 8
    key_value_heads: int = 4
    context: int = 1024
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.attention_heads


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


def rotary_table(shape: GuideShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (context, head_dim), in the half-split layout of Llama checkpoints."""
    inverse = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2).double() / shape.head_dim)
    angles = torch.outer(torch.arange(shape.context).double(), inverse)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys of shape (batch, attention_heads, time, head_dim) to their positions."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query causal self-attention."""

    def __init__(self, shape: GuideShape) -> None:
        super().__init__()
        self.shape = shape
        key_value_size = shape.key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, key_value_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, key_value_size, bias=False)
        self.o_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        # Written out: for short sequences this trains faster on a CPU than the fused attention does.
        batch, time, size = x.shape
        head_dim, groups = self.shape.head_dim, self.shape.key_value_heads
        query = rotate(self.q_proj(x).view(batch, time, -1, head_dim).transpose(1, 2), cos, sin)
        key = rotate(self.k_proj(x).view(batch, time, -1, head_dim).transpose(1, 2), cos, sin)
        value = self.v_proj(x).view(batch, time, groups, head_dim).transpose(1, 2)
        # Query heads that share a key head are stacked along time: (batch, groups, repeats * time, head_dim).
        query = query.reshape(batch, groups, -1, head_dim) * head_dim**-0.5
        scores = (query @ key.transpose(2, 3)).view(batch, groups, -1, time, time).masked_fill(hidden, -1e4)
        weights = scores.float().softmax(dim=-1).to(value.dtype).view(batch, groups, -1, time)
        mixed = (weights @ value).view(batch, -1, time, head_dim)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, time, size))
        return out


class MLP(nn.Module):
    """Gated feed-forward layer with SiLU."""

    def __init__(self, shape: GuideShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One decoder layer: attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, shape: GuideShape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), hidden, cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Guide(nn.Module):
    """The whole decoder. `model.*` parameter names equal those of a Hugging Face LlamaForCausalLM, embeddings tied."""

    def __init__(self, shape: GuideShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        cos, sin = rotary_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; the two projections that write to the residual stream start smaller."""
        residual_scale = (2 * self.shape.layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            scale = residual_scale if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            nn.init.normal_(
                parameter, std=0.02 * scale if "embed" in name else scale * self.shape.hidden_size**-0.5 / 2
            )

    def forward(self, tokens: Tensor, samples: Tensor) -> Tensor:
        """Final hidden states (batch, time, hidden_size) of token ids (batch, time).

        `samples` (batch, time) numbers the samples packed into a row: a token sees earlier tokens of its own sample
        only. Rotary positions are relative, so each sample is treated as if it stood alone.
        """
        time = tokens.shape[1]
        hidden = (samples[:, :, None] != samples[:, None, :]) | torch.ones(time, time, dtype=torch.bool).triu(1)
        hidden = hidden[:, None, None]
        cos, sin = self.cos[:time], self.sin[:time]
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, hidden, cos, sin)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary for any hidden states (..., hidden_size)."""
        return linear(hidden, self.embed_tokens.weight)

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
