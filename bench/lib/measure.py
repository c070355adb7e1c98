"""What is measured: workloads on targets, interleaved, and the samples that come of it."""
import os
import shutil
import time
from dataclasses import dataclass, field

from .load import LATENCY, engine_command, fio_figures, nbd_engine, run_batch, run_fio
from .processes import cpu_seconds, die, say


@dataclass
class Target:
    """Something that serves a disk, or a file of this host."""
    key: str
    title: str
    io: str  # how it reaches storage, for the tables: "direct", "page cache", …
    uri: str = ""  # empty: `engine` names files
    pid: int = 0   # of the server
    engine: list = field(default_factory=list)
    share: int = 1  # figures are divided by this

    def __post_init__(self):
        if self.uri:
            self.engine = nbd_engine(self.uri)


@dataclass
class Workload:
    """One shape of load. `batch`: nbd_batch asks it of servers, and fio of files."""
    key: str
    title: str
    fio: list
    unit: str = "IOPS"  # or "MiB/s", "per s"
    batch: list = None
    span_mib: int = 1024  # eight times the daemon's cache of maps
    targets: tuple = None  # keys; None: all


class Bench:
    """One run: its options, folder, samples and single figures."""

    def __init__(self, options, work):
        self.options = options
        self.work = work
        self.samples = []
        self.facts = {}
        self.targets = {}    # key: (title, io), in order of appearance, of each part
        self.workloads = {}  # part: its workloads
        self.notes = []
        self.finished = []   # parts

    def finish(self, part):
        """Measured: an interrupt from here on keeps it."""
        if part not in self.finished:
            self.finished.append(part)

    def forget_unfinished(self):
        """What an interrupt leaves is of whole parts."""
        self.samples = [one for one in self.samples if one["part"] in self.finished]
        for of_parts in (self.targets, self.workloads):
            for part in of_parts.keys() - set(self.finished):
                del of_parts[part]

    def mib(self, count):
        """An amount of data, less when the script alone is tried."""
        return max(count // 16, 16) if self.options.small else count

    def wants_target(self, key):
        return key == "ours" or not self.options.targets or key in self.options.targets

    def room(self, gib):
        free = shutil.disk_usage(self.work).free >> 30
        if free < gib:
            die(f"{self.options.dir} has {free} GiB free; this takes {gib}")

    def folder(self, name):
        path = os.path.join(self.work, name)
        os.makedirs(path)
        return path

    def fio(self, target, *arguments):
        return run_fio(engine_command(target.engine, *arguments))

    def fill(self, target, mib):
        self.fio(target, "--rw=write", "--bs=1M", "--iodepth=8", f"--size={mib}M")

    def note(self, text):
        say(text)
        self.notes.append(text)

    def add(self, part, workload, target, round_index, value, **more):
        """A sample that somebody else took."""
        known = self.workloads.setdefault(part, {})
        known.setdefault(workload.key, workload)
        self.targets.setdefault(part, {}).setdefault(target.key, (target.title, target.io))
        self.samples.append({"part": part, "workload": workload.key, "target": target.key,
                             "round": round_index, "value": value, **more})

    def measure(self, part, workload, target, round_index):
        span = self.mib(workload.span_mib)
        before = cpu_seconds(target.pid) if target.pid else 0.0
        began = time.monotonic()
        if workload.batch is not None and target.uri:
            figures = run_batch(self.options.nbd_batch, target.uri, *workload.batch,
                                "--span", f"{span}M", "--seconds", str(self.options.seconds),
                                "--seed", str(1 + round_index))
        else:
            figures = fio_figures(self.fio(target, *workload.fio, *LATENCY, f"--size={span}M",
                                           "--time_based", f"--runtime={self.options.seconds}"))
        took = time.monotonic() - began
        # Of a file, fio's latencies are without the flush.
        more = ({} if workload.batch is not None and not target.uri else
                {"p50_us": figures["p50_us"], "p99_us": figures["p99_us"]})
        if target.pid and figures["operations"]:
            spent = cpu_seconds(target.pid) - before
            more["cpu_us"] = 1e6 * spent / figures["operations"]
            more["cpu_share"] = spent / took
        value = figures["mib_s" if workload.unit == "MiB/s" else "iops"] / target.share
        self.add(part, workload, target, round_index, value, **more)

    def interleave(self, part, workloads, targets):
        """Every workload on every target, in rounds; the order of the targets turns by one each."""
        for round_index in range(self.options.rounds):
            for workload in workloads:
                say(f"{part}, round {round_index + 1} of {self.options.rounds}: {workload.title}")
                takers = [target for target in targets
                          if not workload.targets or target.key in workload.targets]
                for index in range(len(takers)):
                    self.measure(part, workload, takers[(index + round_index) % len(takers)],
                                 round_index)
