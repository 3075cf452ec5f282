"""A bar chart as SVG, written by hand: groups side by side, one colour a series. Knows nothing of what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_COLOURS = ("#0b6e99", "#5aa9c9", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#7d7d7d", "#b5838d", "#386641")
_WIDTH, _PANEL, _BAR, _LEFT = 900, 220, 150, 56


@dataclass(frozen=True)
class Panel:
    """``series`` maps a name to one value a group; ``None`` leaves a gap."""

    title: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]


def bar_chart(panels: Sequence[Panel]) -> str:
    """The panels one under the other, each on a scale of its own, with one legend."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    legend = 24 + 18 * ((len(names) + 1) // 2)
    height = legend + _PANEL * len(panels)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
    parts = [
        head + ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for index, name in enumerate(names):
        x, y = _LEFT + 420 * (index % 2), 16 + 18 * (index // 2)
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}">{escape(name)}</text>')
    for index, panel in enumerate(panels):
        parts += _panel(panel, colours, legend + _PANEL * index)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, colours: Mapping[str, str], top: float) -> list[str]:
    most = max((value for values in panel.series.values() for value in values if value is not None), default=1.0)
    base = top + 30 + _BAR
    parts = [f'<text x="{_LEFT}" y="{top + 16}" font-weight="bold">{escape(panel.title)}</text>']
    for part in (0.5, 1.0):
        y = base - _BAR * part
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * part:,.0f}</text>')
    group_width = (_WIDTH - _LEFT - 20) / max(1, len(panel.groups))
    width = group_width * 0.86 / max(1, len(panel.series))
    for group, label in enumerate(panel.groups):
        left = _LEFT + group_width * group
        middle = left + group_width / 2
        parts.append(f'<text x="{middle:.1f}" y="{base + 16}" text-anchor="middle">{escape(label)}</text>')
        for place, (name, values) in enumerate(panel.series.items()):
            value = values[group]
            if value is None:
                continue
            tall, x = _BAR * value / most, left + group_width * 0.07 + width * place
            title = f"<title>{escape(name)}: {value:,.1f}</title>"
            parts.append(
                f'<rect x="{x:.1f}" y="{base - tall:.1f}" width="{width * 0.92:.1f}" height="{tall:.1f}" '
                f'fill="{colours[name]}">{title}</rect>'
            )
    parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{base}" y2="{base}" stroke="#444444"/>')
    return parts
