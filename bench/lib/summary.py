"""Samples into medians, ratios round by round, and the aims with what was measured."""
from dataclasses import dataclass

from .load import spread

# In the order in which they are measured and shown.
PARTS = ("random", "sequential", "mixed", "flush", "cached", "files", "filled", "snapshots",
         "compaction")
# Where ours is not one of the targets: what the others are compared with.
BASES = {"snapshots": "snapshots-0", "compaction": "fresh"}


@dataclass
class Aim:
    """`ours` over `theirs`, each (part, workload, target), is at least (or at most) `bound`."""
    title: str
    bound: float
    ours: tuple
    theirs: tuple
    field: str = "value"
    at_most: bool = False
    or_value: float = 0  # reached as well when ours has this value


def same(part, workload, peer, title, bound, **more):
    return Aim(title, bound, (part, workload, "ours"), (part, workload, peer), **more)


def history(part, workload, target, title, bound, **more):
    return Aim(title, bound, (part, workload, target), (part, workload, BASES[part]), **more)


AIMS = [
    same("random", "randwrite-qd64-c1", "quorum",
         "4 KiB random write, depth 64, to qemu-nbd's quorum of three qcow2", 10),
    same("random", "randwrite-qd64-c1", "null",
         "4 KiB random write, depth 64, to the empty server", 0.6),
    same("random", "randread-qd64-c1", "device",
         "4 KiB random read, depth 64, not cached, to fio on a raw file", 1.0),
    same("cached", "cached-qd64-c1", "null",
         "4 KiB random read, depth 64, cached, to the empty server", 0.7),
    same("cached", "cached-qd64-c1", "nbdkit-memory",
         "4 KiB random read, depth 64, cached, to nbdkit memory", 2),
    same("cached", "batch-c2", "null",
         "4 KiB random read, cached, batching client, 2 connections, to the empty server", 0.4,
         or_value=500_000),
    Aim("4 KiB write with FUA, depth 1, to qemu-nbd raw with a flush for each write", 1.0,
        ("flush", "write-fua", "ours"), ("flush", "write-flush", "raw")),
    same("random", "randread-qd1-c1", "device",
         "4 KiB random read, depth 1, not cached, to fio on a raw file", 0.9),
    same("sequential", "write-1m", "device3",
         "1 MiB sequential write, to a third of fio on three raw files at once", 0.8),
    same("sequential", "read-1m", "raw", "1 MiB sequential read, to qemu-nbd raw", 1.0),
    history("snapshots", "snapshots-write", "snapshots-100",
            "4 KiB random write with 100 snapshots, to the same disk with none", 0.9),
    history("snapshots", "snapshots-read", "snapshots-100",
            "4 KiB random read with 100 snapshots, to the same disk with none", 0.9),
    history("compaction", "compaction-write", "compacting",
            "4 KiB random write while compaction runs, to a fresh disk", 0.5),
    history("compaction", "compaction-read", "compacting",
            "4 KiB random read while compaction runs, to a fresh disk", 0.5),
    history("compaction", "compaction-write", "compacting",
            "p99 latency of that write, to a fresh disk", 5, field="p99_us", at_most=True),
    history("compaction", "compaction-read", "compacting",
            "p99 latency of that read, to a fresh disk", 5, field="p99_us", at_most=True),
    Aim("processor time of qemu-nbd's quorum for a 4 KiB random write at depth 64, to ours", 5,
        ("random", "randwrite-qd64-c1", "quorum"), ("random", "randwrite-qd64-c1", "ours"),
        field="cpu_us"),
]


class Samples:
    def __init__(self, samples):
        self.by_place = {}
        for sample in samples:
            place = (sample["part"], sample["workload"], sample["target"])
            self.by_place.setdefault(place, {})[sample["round"]] = sample

    def figures(self, *place):
        """Median, lowest and highest value, and medians of the rest; None: not measured."""
        samples = list(self.by_place.get(place, {}).values())
        if not samples:
            return None
        made = spread([sample["value"] for sample in samples])
        for field in ("p50_us", "p99_us", "cpu_us", "cpu_share"):
            values = [sample[field] for sample in samples if field in sample]
            if values:
                made[field] = spread(values)["median"]
        return made

    def ratio(self, ours, theirs, field="value"):
        """Spread of ours to theirs in the same round; None: not measured, or there was nothing."""
        mine, others = self.by_place.get(tuple(ours), {}), self.by_place.get(tuple(theirs), {})
        ratios = [mine[index][field] / others[index][field] for index in mine
                  if index in others and field in mine[index] and others[index].get(field)]
        return spread(ratios) if ratios else None


def judge(aim, samples):
    """The aim with its measured ratio and whether it is met; None: it was not measured."""
    ratio = samples.ratio(aim.ours, aim.theirs, aim.field)
    if not ratio:
        return None
    value = samples.figures(*aim.ours)["median"]
    met = ratio["median"] <= aim.bound if aim.at_most else ratio["median"] >= aim.bound
    return {"title": aim.title, "bound": aim.bound, "at_most": aim.at_most,
            "or_value": aim.or_value, "value": value, "ratio": ratio,
            "met": met or bool(aim.or_value and value >= aim.or_value)}


def summarise(bench):
    samples = Samples(bench.samples)
    parts = {}
    for part, workloads in bench.workloads.items():
        base = BASES.get(part, "ours")
        rows = []
        for workload in workloads.values():
            places = {key: (part, workload.key, key) for key in bench.targets[part]}
            figures = {key: samples.figures(*place) for key, place in places.items()}
            ratios = {}
            for key in places:
                pair = (key, base) if part in BASES else (base, key)
                if key != base and (ratio := samples.ratio(places[pair[0]], places[pair[1]])
                                    if base in places else None):
                    ratios[key] = ratio
            rows.append({"key": workload.key, "title": workload.title, "unit": workload.unit,
                         "targets": {key: made for key, made in figures.items() if made},
                         "ratios": ratios})
        parts[part] = {"targets": {key: {"title": title, "io": io}
                                   for key, (title, io) in bench.targets[part].items()},
                       "workloads": rows}
    aims = [judged for aim in AIMS if (judged := judge(aim, samples))]
    return {"parts": parts, "aims": aims, "facts": bench.facts, "notes": bench.notes,
            "samples": bench.samples}


def join(summaries):
    """One summary of runs that measured different parts; ValueError where two measured the same."""
    parts, facts = {}, {}
    for summary in summaries:
        twice = (parts.keys() & summary["parts"].keys()) | (facts.keys() & summary["facts"].keys())
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))}: measured by more than one run")
        parts.update(summary["parts"])
        facts.update(summary["facts"])

    def all_of(key):
        return " or ".join(dict.fromkeys(str(summary[key]) for summary in summaries))
    order = {aim.title: index for index, aim in enumerate(AIMS)}  # an older one comes last
    aims = [aim for summary in summaries for aim in summary["aims"]]
    return {"rounds": all_of("rounds"), "seconds": all_of("seconds"),
            "small": any(summary["small"] for summary in summaries),
            "processors": all_of("processors"), "filesystem": all_of("filesystem"),
            "load_at_end": "; ".join(summary["load_at_end"] for summary in summaries),
            "parts": {name: parts[name] for name in PARTS if name in parts},
            "aims": sorted(aims, key=lambda aim: order.get(aim["title"], len(order))), "facts": facts,
            "notes": list(dict.fromkeys(note for summary in summaries
                                        for note in summary["notes"]))}
