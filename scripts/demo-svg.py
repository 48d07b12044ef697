#!/usr/bin/env python3
"""Draws what the demo prints as docs/demo.svg, a terminal that stands still.

    make demo ARGS=--once | scripts/demo-svg.py > docs/demo.svg
"""
import html
import re
import sys

COLUMNS, WIDTH, LINE, LEFT, TOP = 118, 8.0, 19, 18, 58
NBSP = "\u00a0"  # blanks that no renderer folds
INK, FAINT, GOOD, BAD, TITLE = "#d7dde8", "#7d8899", "#7ee2a8", "#ff8f8f", "#8ab4ff"


def shown(lines):
    """The demo itself: nothing of the build before it, long lines cut."""
    started = False
    for line in lines:
        line = line.rstrip()
        started = started or line.startswith("== ")
        if started:
            line = re.sub(r"/tmp/certctl-demo-\d+", "/tmp/demo", line)
            yield line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…"


def colour(line):
    if line.startswith("== "):
        return TITLE
    if re.match(r" +FAIL ", line) or "deployment failed" in line:
        return BAD
    if re.search(r"under the goal|; 0 failed|still serves the certificate|no second certificate", line):
        return GOOD
    return FAINT if line.startswith("   |") else INK


def main():
    lines = list(shown(sys.stdin))
    if not lines:
        sys.exit("demo-svg: nothing of the demo on standard input; see the head of this file")
    lines.insert(0, "$ make demo")
    width = round(COLUMNS * WIDTH + 2 * LEFT)
    height = TOP + LINE * len(lines) + 8
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        "<title>make demo: a certificate from the request to the handshake, renewed under load, rolled back</title>"
        f'<rect width="{width}" height="{height}" rx="10" fill="#12161f"/>'
        '<circle cx="22" cy="20" r="6" fill="#ff5f57"/><circle cx="42" cy="20" r="6" fill="#febc2e"/><circle cx="62" cy="20" r="6" fill="#28c840"/>'
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13">'
    )
    for number, line in enumerate(lines):
        if line:
            size = f' textLength="{len(line) * WIDTH:.0f}" lengthAdjust="spacingAndGlyphs"'
            print(f'<text x="{LEFT}" y="{TOP + number * LINE}" fill="{colour(line)}"{size}>{html.escape(line, quote=False).replace(" ", NBSP)}</text>')
    print("</g></svg>")


main()
