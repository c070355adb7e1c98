"""The summary as Markdown."""
from .summary import BASES

PARTS = {
    "random": "4 KiB at random",
    "sequential": "Sequential",
    "mixed": "Mixed",
    "flush": "Every write durable",
    "cached": "Cached reads",
    "files": "ext4 on a mounted disk",
    "filled": "After half of a 5 GiB disk was written at random",
    "snapshots": "With snapshots",
    "compaction": "While compaction runs",
}


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def cell(figures, show=number):
    if not figures:
        return "–"
    return f"{show(figures['median'])} ({show(figures['min'])}–{show(figures['max'])})"


def two(value):
    return f"{value:.2f}"


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def aims_table(aims):
    def bound(aim):
        text = f"{'≤' if aim['at_most'] else '≥'} {aim['bound']:g}"
        return text + (f", or {aim['or_value']:,.0f} IOPS" if aim["or_value"] else "")

    def measured(aim):
        return cell(aim["ratio"], two) + (f"; {aim['value']:,.0f} IOPS" if aim["or_value"] else "")
    yield "## What we aim for"
    yield ""
    yield from table(["ratio of", "aim", "measured", ""],
                     [[aim["title"], bound(aim), measured(aim), "met" if aim["met"] else "**not met**"]
                      for aim in aims])


def part_tables(name, part):
    keys = list(part["targets"])
    heads = {key: f"{target['title']} ({target['io']})" for key, target in part["targets"].items()}
    yield f"## {PARTS[name]}"
    yield ""
    yield from table(["", *heads.values()],
                     [[f"{row['title']}, {row['unit']}",
                       *(cell(row["targets"].get(key)) for key in keys)]
                      for row in part["workloads"]])
    others = [key for key in keys if any(key in row["ratios"] for row in part["workloads"])]
    if not others:
        return
    if name in BASES:
        yield f"To “{part['targets'][BASES[name]]['title']}” in the same round:"
    else:
        yield "Ours to theirs in the same round; above 1 we are faster:"
    yield ""
    yield from table(["", *(heads[key] for key in others)],
                     [[row["title"], *(cell(row["ratios"].get(key), two) for key in others)]
                      for row in part["workloads"]])


def field_table(part, title, keys_of_rows, show):
    """One line for each workload whose key is listed, a column for each target that has it."""
    rows = [row for row in part["workloads"] if row["key"] in keys_of_rows]
    columns = [key for key in part["targets"]
               if any(show(row["targets"].get(key) or {}) for row in rows)]
    if not rows or not columns:
        return
    yield title
    yield ""
    yield from table(["", *(part["targets"][key]["title"] for key in columns)],
                     [[row["title"], *(show(row["targets"].get(key) or {}) or "–"
                                       for key in columns)] for row in rows])


def latency(figures):
    return f"{figures['p50_us']:,.0f}; {figures['p99_us']:,.0f}" if figures.get("p50_us") else ""


def processor(figures):
    return f"{figures['cpu_us']:.1f}" if "cpu_us" in figures else ""


def detail_tables(name, part):
    if name == "random":
        yield from field_table(part, "Latency at depth 1, median; p99, in µs:",
                               ["randwrite-qd1-c1", "randread-qd1-c1"], latency)
        yield from field_table(part, "Processor time of the server for each 4 KiB, in µs, all of "
                               "its threads, background work included:",
                               ["randwrite-qd64-c1", "randread-qd64-c1"], processor)
    if name == "flush":
        yield from field_table(part, "Latency, median; p99, in µs:",
                               [row["key"] for row in part["workloads"]], latency)
    if name == "compaction":
        yield from field_table(part, "Latency, median; p99, in µs:",
                               [row["key"] for row in part["workloads"]], latency)


def fact_rows(facts):
    def ms(*keys):
        return "; ".join(f"{facts[key]:,.0f} ms" for key in keys)

    def mib(*keys):
        return "; ".join(f"{facts[key]:,.1f} MiB" for key in keys)
    if "create_ms" in facts:
        yield ["a 32 TiB disk: create", ms("create_ms")]
        yield ["a 32 TiB disk: attach", ms("attach_ms")]
        yield ["a 32 TiB disk: connect and ask the size", ms("connect_ms")]
        yield ["any command of clouddisk (`disk list`), for scale", ms("command_ms")]
        yield ["memory (RSS) with the 32 TiB disk open; growth by it",
               mib("open_rss_mib", "open_growth_mib")]
    for name, text in (("sequential", "1 MiB writes"), ("random", "4 KiB random writes")):
        if f"{name}_ready_ms" in facts:
            yield [f"kill -9 after 960 MiB of {text}: READY; disk answers",
                   ms(f"{name}_ready_ms", f"{name}_served_ms")]
    if "filled_gib" in facts:
        yield [f"memory (RSS), 100 GiB disk on {facts['filled_replicas']} replica(s): empty; "
               f"{facts['filled_gib']} GiB filled; after 20 s of random reads and writes all over it",
               mib("fill_before_mib", "filled_rss_mib", "churned_rss_mib")]
    if "cached_hit_share" in facts:
        yield ["cached reads: blocks that came from the read cache",
               f"{100 * facts['cached_hit_share']:.1f} %"]
    for rw in ("write", "read"):
        if moved := facts.get(f"compaction-{rw}_moved_mib"):
            yield [f"moved by compaction while random {rw}s were measured, each round",
                   ", ".join(f"{value:,.0f}" for value in moved) + " MiB"]


def report(summary):
    """Markdown, a line at a time."""
    yield (f"{summary['rounds']} rounds of {summary['seconds']} s, {summary['processors']} "
           f"processors, {summary['filesystem']}, load at the end {summary['load_at_end']}. "
           "Median (lowest–highest).")
    yield ""
    if summary["small"]:
        yield "**Tried with a sixteenth of the data: these figures mean nothing.**"
        yield ""
    if summary["aims"]:
        yield from aims_table(summary["aims"])
    for name, part in summary["parts"].items():
        yield from part_tables(name, part)
        yield from detail_tables(name, part)
    if rows := list(fact_rows(summary["facts"])):
        yield "## What only we are asked"
        yield ""
        yield from table(["what", "figure"], rows)
    for note in summary["notes"]:
        yield f"- {note}"
