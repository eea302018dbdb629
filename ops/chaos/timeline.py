"""Runs as one SVG: for each, the faults in their time above what was accepted and what was done. Pure."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from ops.chaos.verdict import Struck, Verdict

WIDTH, LABELS, PLOT = 1000, 200, 780
TITLE, LANE, CURVE, AXIS, GAP, MARGIN = 30, 15, 90, 22, 26, 16
#: A fault that strikes once and is over has no length; it is drawn as long as this.
_MOMENT_S = 0.4

_STYLE = """
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; }
  .note { fill: #59636e; font-size: 11px; }
  .label { text-anchor: end; font-size: 11px; }
  .middle { text-anchor: middle; }
  .end { text-anchor: end; }
  .fault { fill: #cf222e; }
  .idle { fill: #afb8c1; }
  .accepted { fill: none; stroke: #0969da; stroke-width: 1.5; }
  .ended { fill: #2da44e; opacity: .25; }
  .healed { stroke: #59636e; stroke-dasharray: 3 3; }
  .line { stroke: #d1d9e0; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .fault { fill: #f85149; }
    .idle { fill: #545d68; }
    .accepted { stroke: #4493f8; }
    .line { stroke: #3d444d; }
  }
"""


def svg(verdicts: Sequence[Verdict]) -> str:
    """The document: runs one under the other, each on its own scale."""
    parts, top = list[str](), MARGIN
    for verdict in verdicts:
        drawn, height = _run(verdict, top)
        parts += drawn
        top += height + GAP
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    title = f"Faults and throughput of seed {', '.join(str(verdict.seed) for verdict in verdicts)}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _run(verdict: Verdict, top: int) -> tuple[list[str], int]:
    seconds = max(verdict.healed_s, len(verdict.ended_per_s), len(verdict.accepted_per_s))
    scale = PLOT / seconds
    names = list(dict.fromkeys(one.name for one in verdict.timeline))
    curves = top + TITLE + LANE * len(names) + 8
    broken = {finding.promise for finding in verdict.findings}
    outcome = f"broken: {', '.join(sorted(broken))}" if broken else "every promise held"
    parts = [_text(MARGIN, top + 15, f"Seed {verdict.seed}: {verdict.accepted:,} orders accepted, {outcome}", "title")]
    parts.append(_text(LABELS + PLOT, top + 15, "red: a fault that took effect; grey: one that did not", "note end"))
    for lane, name in enumerate(names):
        y = top + TITLE + lane * LANE
        parts.append(_text(LABELS - 8, y + 9, name, "label"))
        parts += [_fault(one, y, scale) for one in verdict.timeline if one.name == name]
    parts += _curves(verdict, curves, scale)
    parts += _axis(verdict, top + TITLE, curves + CURVE, seconds, scale)
    return parts, curves + CURVE + AXIS - top


def _fault(one: Struck, y: int, scale: float) -> str:
    shade = "fault" if one.times else "idle"
    x, width = LABELS + one.at_s * scale, max(one.lasts_s, _MOMENT_S) * scale
    hint = escape(f"{one.name} from {one.at_s:.1f} to {one.ends_s:.1f} s")
    return (
        f'<rect class="{shade}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="11" rx="2"><title>{hint}</title></rect>'
    )


def _curves(verdict: Verdict, top: int, scale: float) -> list[str]:
    """What was accepted as a line, what came to its end as an area, each by its own most."""
    ended, accepted = verdict.ended_per_s, verdict.accepted_per_s
    most_ended, most_accepted = max(ended, default=0), max(accepted, default=0)
    area = [f"{LABELS},{top + CURVE}", *_points(ended, most_ended, top, scale), f"{_last(ended, scale)},{top + CURVE}"]
    return [
        f'<polygon class="ended" points="{" ".join(area)}"/>',
        f'<polyline class="accepted" points="{" ".join(_points(accepted, most_accepted, top, scale))}"/>',
        _text(LABELS - 8, top + 10, f"line: orders accepted, to {most_accepted:,}/s", "label"),
        _text(LABELS - 8, top + 24, f"area: jobs ended, to {most_ended:,}/s", "label"),
    ]


def _points(counts: Sequence[int], most: int, top: int, scale: float) -> Iterator[str]:
    for second, count in enumerate(counts):
        yield f"{LABELS + (second + 0.5) * scale:.1f},{top + CURVE * (1 - count / (most or 1)):.1f}"


def _last(counts: Sequence[int], scale: float) -> str:
    return f"{LABELS + max(0.0, len(counts) - 0.5) * scale:.1f}"


def _axis(verdict: Verdict, top: int, bottom: int, seconds: float, scale: float) -> list[str]:
    healed = LABELS + verdict.healed_s * scale
    step = max(10, 10 * round(seconds / 100))
    return [
        f'<line class="line" x1="{LABELS}" y1="{bottom}" x2="{LABELS + PLOT}" y2="{bottom}"/>',
        f'<line class="healed" x1="{healed:.1f}" y1="{top}" x2="{healed:.1f}" y2="{bottom}"/>',
        _text(healed + 4, bottom - 4, "healed", "note"),
        *(
            _text(LABELS + second * scale, bottom + 15, f"{second} s", "note middle")
            for second in range(0, int(seconds) + 1, step)
        ),
    ]


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
