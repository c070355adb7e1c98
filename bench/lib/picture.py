"""The summary as a picture: bars of the medians, with whiskers from lowest to highest; SVG."""
from html import escape

PANELS = [  # part, workload
    ("random", "randwrite-qd64-c1"), ("random", "randread-qd64-c1"),
    ("random", "randwrite-qd1-c1"), ("random", "randread-qd1-c1"),
    ("mixed", "mixed-qd64-c1"), ("flush", "write-flush"), ("flush", "write-fua"),
    ("sequential", "write-1m"), ("sequential", "read-1m"),
    ("cached", "cached-qd64-c1"), ("cached", "batch-c2"),
    ("files", "sqlite"), ("files", "files-sync"),
    ("filled", "filled-write"), ("filled", "filled-read"),
    ("snapshots", "snapshots-write"), ("snapshots", "snapshots-read"),
    ("compaction", "compaction-write"), ("compaction", "compaction-read"),
]
PANEL_WIDTH, GAP, MARGIN = 540, 28, 16
LABEL_WIDTH, VALUE_WIDTH = 250, 78
HEAD, BAR, STEP = 26, 13, 19
OURS, PEER, BOUND = "#1f6f54", "#8aa0b4", "#d5d9de"
BOUNDS = ("null", "nbdkit-memory", "device", "device3")  # not servers of stored data


def colour(key):
    if key in BOUNDS:
        return BOUND
    return OURS if key in ("ours", "snapshots-100", "compacting") else PEER


def panel(row, targets, left, top):
    """Its lines of SVG."""
    figures = [(key, row["targets"][key]) for key in targets if key in row["targets"]]
    most = max(made["max"] for _, made in figures) or 1
    width = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    yield (f'<text x="{left}" y="{top + 14}" class="head">{escape(row["title"])}, '
           f'{escape(row["unit"])}</text>')
    for index, (key, made) in enumerate(figures):
        y = top + HEAD + index * STEP
        start = left + LABEL_WIDTH
        length = width * made["median"] / most
        low, high = (start + width * made[side] / most for side in ("min", "max"))
        middle = y + BAR / 2
        title = targets[key]["title"]
        if targets[key]["io"] == "page cache":
            title += " *"
        yield f'<text x="{start - 6}" y="{y + 11}" class="label">{escape(title)}</text>'
        yield (f'<rect x="{start}" y="{y}" width="{length:.1f}" height="{BAR}" '
               f'fill="{colour(key)}"/>')
        yield (f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 3}v6'
               f'M{high:.1f} {middle - 3}v6" class="spread"/>')
        end = max(start + length, high) + 5
        value = made["median"]
        yield (f'<text x="{end:.1f}" y="{y + 11}">'
               f'{value:,.0f}</text>' if value >= 100 else
               f'<text x="{end:.1f}" y="{y + 11}">{value:.1f}</text>')


def picture(summary):
    """The file's text. Two panels side by side."""
    panels = []
    for name, key in PANELS:
        if part := summary["parts"].get(name):
            panels += [(row, part["targets"]) for row in part["workloads"] if row["key"] == key]
    lines, top = [], MARGIN + 34
    for index in range(0, len(panels), 2):
        pair = panels[index:index + 2]
        for column, (row, targets) in enumerate(pair):
            lines += panel(row, targets, MARGIN + column * (PANEL_WIDTH + GAP), top)
        top += HEAD + STEP * max(len(row["targets"]) for row, _ in pair) + GAP
    width = 2 * MARGIN + 2 * PANEL_WIDTH + GAP
    text = (f'clouddisk and others on {summary["processors"]} processors: medians of '
            f'{summary["rounds"]} rounds, lowest to highest; * through the page cache; '
            'light grey: bounds without NBD or without storage')
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" '
        f'viewBox="0 0 {width} {top}">',
        '<style>text{font:11px sans-serif;fill:#222}.head{font-weight:bold;font-size:12px}'
        '.label{text-anchor:end}.spread{stroke:#222;stroke-width:1;fill:none}</style>',
        f'<rect width="{width}" height="{top}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="{MARGIN + 8}">{escape(text)}</text>',
        *lines, "</svg>", ""])
