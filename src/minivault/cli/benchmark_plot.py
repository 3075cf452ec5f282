"""Draws a benchmark's figures as SVG: throughput and latencies over the number of streams. Knows nothing of servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 880, 300, 64, 56, 70
_PANEL = (_WIDTH - 2 * _LEFT - 2 * _GAP) / 3
_COLOURS = ("#0b6e99", "#d1495b", "#edae49")


def plot(title: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """One SVG document of the :func:`minivault.cli.benchmark_load.summary` of each run."""
    streams = [run["concurrency"] for run in runs]
    panels = [
        ("tokens per second", {"": [run["tokens_per_second"] for run in runs]}),
        ("time to first token, ms", _latencies(runs, "time_to_first_token")),
        ("time between tokens, ms", _latencies(runs, "inter_token_latency")),
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for place, (name, series) in enumerate(panels):
        parts += _panel(name, streams, series, _LEFT + place * (_PANEL + _GAP))
    return "\n".join([*parts, "</svg>", ""])


def _latencies(runs: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[float]]:
    return {rank: [1000 * (run[name][rank] or 0.0) for run in runs] for rank in ("p50", "p99")}


def _panel(name: str, streams: Sequence[int], series: Mapping[str, Sequence[float]], left: float) -> list[str]:
    tall = _HEIGHT - _TOP - 46
    base = _TOP + tall
    most = max((value for values in series.values() for value in values), default=0.0) or 1.0
    step = _PANEL / max(1, len(streams) - 1)
    parts = [f'<text x="{left}" y="{_TOP - 12}">{escape(name)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = base - tall * share
        parts.append(f'<line x1="{left}" x2="{left + _PANEL:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_figure(most * share)}</text>')
    for place, number in enumerate(streams):
        parts.append(f'<text x="{left + step * place:.1f}" y="{base + 16}" text-anchor="middle">{number}</text>')
    parts.append(
        f'<text x="{left + _PANEL / 2:.1f}" y="{base + 34}" text-anchor="middle" fill="#666666">streams</text>'
    )
    for colour, (label, values) in zip(_COLOURS, series.items(), strict=False):
        places = [(left + step * place, base - tall * value / most) for place, value in enumerate(values)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        if label:
            x, y = places[-1]
            parts.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(label)}</text>')
    return parts


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}"
