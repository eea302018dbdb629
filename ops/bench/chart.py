"""The rates of a run as one SVG: a panel per figure, a bar per row. Pure; readable on light and on dark pages."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

import msgspec

from ops.bench.figure import Figure, Value
from ops.bench.spread import Spread
from ops.bench.words import headings, number

WIDTH, LABELS, BARS = 760, 250, 270
TITLE, ROW, BAR, GAP, MARGIN = 34, 24, 15, 20, 16
OURS = "longshore"

_STYLE = """
  text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; }
  .note { fill: #59636e; font-size: 12px; font-weight: 400; }
  .ours { fill: #0969da; }
  .theirs { fill: #afb8c1; }
  .label { text-anchor: end; }
  .strong { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .ours { fill: #4493f8; }
    .theirs { fill: #545d68; }
  }
"""


class Bar(msgspec.Struct, frozen=True):
    """One row: its name, its rate, and what should be known when it is compared."""

    label: str
    value: float
    note: str = ""


class Panel(msgspec.Struct, frozen=True):
    """One figure."""

    title: str
    bars: list[Bar]

    @property
    def height(self) -> int:
        return TITLE + ROW * len(self.bars) + GAP


def panels(figures: Sequence[Figure]) -> list[Panel]:
    """The figures that are drawn, largest bar first; rows that were not measured have no bar."""
    found = []
    for figure in figures:
        bars = [bar for row in figure.rows if figure.chart and (bar := _bar(row, figure.chart, headings(figure)[0]))]
        if bars:
            found.append(Panel(figure.title, sorted(bars, key=lambda bar: -bar.value)))
    return found


def _bar(row: dict[str, Value], chart: str, name: str) -> Bar | None:
    value = row.get(chart)
    if not isinstance(value, Spread):
        return None
    kept = row.get("kept")
    return Bar(str(row[name]), value.median, f"keeps {kept}" if kept else "")


def svg(drawn: Sequence[Panel], footnote: str) -> str:
    """The document."""
    height = 2 * MARGIN + sum(panel.height for panel in drawn) + ROW
    parts, top = list[str](), MARGIN
    for panel in drawn:
        parts += _drawn(panel, top)
        top += panel.height
    parts.append(_text(MARGIN, top + ROW / 2, footnote, "note"))
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    title = escape("; ".join(panel.title for panel in drawn))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _drawn(panel: Panel, top: int) -> list[str]:
    most = max(bar.value for bar in panel.bars) or 1.0
    parts = [_text(MARGIN, top + 16, panel.title, "title")]
    for row, bar in enumerate(panel.bars):
        y = top + TITLE + row * ROW
        width, is_ours = max(1.0, bar.value / most * BARS), bar.label.partition(",")[0] == OURS
        line, strong = y + BAR - 3, " strong" if is_ours else ""
        shade = "ours" if is_ours else "theirs"
        parts += [
            _text(LABELS - 8, line, bar.label, f"label{strong}"),
            f'<rect class="{shade}" x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            _text(LABELS + width + 8, line, f"{number(bar.value)}", f"value{strong}", bar.note),
        ]
    return parts


def _text(x: float, y: float, words: str, style: str, note: str = "") -> str:
    aside = f'<tspan class="note" dx="8">{escape(note)}</tspan>' if note else ""
    return f'<text class="{style}" x="{x:.6g}" y="{y:.6g}">{escape(words)}{aside}</text>'
