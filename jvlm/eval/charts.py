"""Inline SVG for a page without scripts: colours come from the page's CSS variables, text is escaped."""

import html
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 460, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 34
POINTS = 300
_COLOURS = ("#27c", "#d5672f", "#16855b", "#8a4fc4")


def line_chart(series: Mapping[str, Sequence[tuple[float, float]]], label_x: str, label_y: str) -> str:
    """Lines over (x, y); long series are averaged to about 300 points, the raw spread is drawn faintly behind.

    Values that are not finite are left out. Returns an empty string when nothing can be drawn.
    """
    clean = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    clean = {name: points for name, points in clean.items() if len(points) > 1}
    if not clean:
        return ""
    xs = [x for points in clean.values() for x, _ in points]
    ys = sorted(y for points in clean.values() for _, y in points)
    low, high = min(xs), max(xs)
    bottom, top = _nice_range(ys[0], ys[min(len(ys) - 1, int(len(ys) * 0.995))])  # one spike must not flatten the rest
    across, down = _scale(low, high, _LEFT, WIDTH - _RIGHT), _scale(bottom, top, HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(low, high, bottom, top, label_x, label_y)]
    for number, (_, points) in enumerate(clean.items()):
        raw = [(across(x), down(min(max(y, bottom), top))) for x, y in _thin(points, POINTS)]
        smooth = [(across(x), down(min(max(y, bottom), top))) for x, y in _averaged(points, 40)]
        parts.append(f'<polyline class="raw c{number % 4}" points="{_path(raw)}"/>')
        parts.append(f'<polyline class="line c{number % 4}" points="{_path(smooth)}"/>')
    label = f"{label_y} / {label_x}: {', '.join(clean)}"
    return _svg("".join(parts), WIDTH, HEIGHT, label)


def dots(rows: Mapping[str, Sequence[float]], label: str) -> str:
    """A row of dots for each name, a tick at their mean: a file of its own, with its colours in it."""
    line, left, width = 28, 120, 520
    bottom, top = _nice_range(*(f(min(v) if f is min else max(v) for v in rows.values()) for f in (min, max)))
    across = _scale(bottom, top, left, width - 20)
    height = line * len(rows) + 44
    parts = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for tick in (bottom, (bottom + top) / 2, top):
        x = across(tick)
        parts.append(f'<path stroke="#ddd" d="M{x:.1f} 8V{height - 36}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 22}" text-anchor="middle">{tick:.3g}</text>')
    for number, (name, values) in enumerate(rows.items()):
        y = 22 + number * line
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{html.escape(name)}</text>')
        parts += [f'<circle cx="{across(v):.1f}" cy="{y}" r="4" fill="#27c" fill-opacity=".6"/>' for v in values]
        parts.append(f'<path stroke="#111" d="M{across(sum(values) / len(values)):.1f} {y - 9}v18"/>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 6}" text-anchor="middle">{html.escape(label)}</text>')
    body = f'<g font-family="sans-serif" font-size="12">{"".join(parts)}</g>'
    return _svg(body, width, height, label).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def as_file(svg: str, names: Sequence[str] = ()) -> str:
    """A `line_chart` as a file of its own, with the colours that a page would give it; `names` of several lines are
    written into it."""
    rules = (
        "text{font:11px sans-serif;fill:#555}.grid{stroke:#ddd}polyline{fill:none;stroke:#27c;stroke-linejoin:round}"
        ".raw{opacity:.25}.line{stroke-width:2}"
    )
    rules += "".join(f".c{i}{{stroke:{colour}}}.n{i}{{fill:{colour}}}" for i, colour in enumerate(_COLOURS))
    legend = "".join(
        f'<text class="n{i % 4}" x="{WIDTH - _RIGHT}" y="{_TOP + 14 * i + 14}" text-anchor="end">{html.escape(name)}'
        "</text>"
        for i, name in enumerate(names)
    )
    head, body = svg.split(">", 1)
    start = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    body = body.replace("</svg>", f"{legend}</svg>")
    return f'{start}><style>{rules}</style><rect width="100%" height="100%" fill="#fff"/>{body}'


def interval_bars(rows: Sequence[tuple[str, float, Sequence[float], float | None]]) -> str:
    """Horizontal bars in 0 to 1 with a 95 % whisker and a tick at the best constant answer.

    Args:
        rows: (name, value, (low, high), best constant or None).
    """
    if not rows:
        return ""
    width, line, left = 620, 26, 190
    across = _scale(0, 1, left, width - 60)
    height = line * len(rows) + 26
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{height - 22}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 6}" text-anchor="middle">{tick:.0%}</text>')
    for number, (name, value, (low, high), constant) in enumerate(rows):
        y = 8 + number * line
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>')
        length = max(0.5, across(value) - left)
        parts.append(f'<rect class="bar" x="{left}" y="{y}" width="{length:.1f}" height="18" rx="2"/>')
        middle = y + 9
        parts.append(f'<path class="whisker" d="M{across(low):.1f} {middle}H{across(high):.1f}"/>')
        if constant is not None:
            parts.append(f'<path class="constant" d="M{across(constant):.1f} {y - 2}V{y + 20}"/>')
        parts.append(f'<text class="value" x="{width - 52}" y="{y + 13}">{value:.1%}</text>')
    return _svg("".join(parts), width, height, ", ".join(f"{row[0]} {row[1]:.1%}" for row in rows))


def share_bar(parts: Sequence[tuple[str, int]]) -> str:
    """One bar cut into shares, such as the four transitions; class p0, p1, … gives the colours."""
    total = sum(count for _, count in parts)
    if not total:
        return ""
    width, x, drawn = 620.0, 0.0, []
    for number, (_, count) in enumerate(parts):
        size = width * count / total
        drawn.append(f'<rect class="p{number}" x="{x:.1f}" y="0" width="{size:.1f}" height="30"/>')
        if size > 34:
            middle, share = x + size / 2, count / total
            drawn.append(
                f'<text class="onbar t{number}" x="{middle:.1f}" y="20" text-anchor="middle">{share:.0%}</text>'
            )
        x += size
    return _svg("".join(drawn), int(width), 30, ", ".join(f"{name} {count}" for name, count in parts))


def _axes(low: float, high: float, bottom: float, top: float, label_x: str, label_y: str) -> str:
    across, down = _scale(low, high, _LEFT, WIDTH - _RIGHT), _scale(bottom, top, HEIGHT - _BOTTOM, _TOP)
    parts = []
    for value in _ticks(bottom, top):
        y = down(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in _ticks(low, high):
        x = across(value)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{value:g}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{html.escape(label_x)}</text>')
    parts.append(f'<text class="tick" x="{_LEFT}" y="{_TOP - 4}">{html.escape(label_y)}</text>')
    return "".join(parts)


def _ticks(low: float, high: float, about: int = 4) -> list[float]:
    step = _nice_step((high - low) / about)
    return [round(step * i, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _nice_range(low: float, high: float) -> tuple[float, float]:
    if high <= low:
        low, high = low - 0.5, low + 0.5
    step = _nice_step((high - low) / 4)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _nice_step(rough: float) -> float:
    power = 10 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next((m * power for m in (1, 2, 5) if rough <= m * power), 10 * power)


class _scale:
    """Linear map from [low, high] to [start, end]."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.start = low, start
        self.slope = (end - start) / ((high - low) or 1)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * self.slope


def _thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    stride = max(1, math.ceil(len(points) / most))
    return [*points[::stride], points[-1]]


def _averaged(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    size = max(1, math.ceil(len(points) / most))
    if size == 1:
        return list(points)
    blocks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in blocks]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _svg(body: str, width: int, height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}">{body}</svg>'
