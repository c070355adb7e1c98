"""Parts that ask all targets the same over NBD: random, sequential, mixed, flush, cached."""
from .measure import Workload
from .peers import Stage
from .processes import say

STORED = ("ours", "quorum", "raw", "qcow2", "nbdkit-file", "nbd-server", "nbdkit-memory", "null",
          "device")
CONNECTIONS = (1, 4)


def jobs(connections):
    return [f"--numjobs={connections}", "--group_reporting"] if connections > 1 else []


def connections_text(count):
    return "1 connection" if count == 1 else f"{count} connections"


def random_workloads():
    return [Workload(f"{rw}-qd{depth}-c{connections}",
                     f"4 KiB random {rw[4:]}, depth {depth}, {connections_text(connections)}",
                     [f"--rw={rw}", "--bs=4k", f"--iodepth={depth}", *jobs(connections)])
            for rw in ("randwrite", "randread") for depth in (1, 16, 64, 256)
            for connections in CONNECTIONS]


SEQUENTIAL = [
    Workload("write-1m", "1 MiB sequential write, depth 8",
             ["--rw=write", "--bs=1M", "--iodepth=8"], "MiB/s"),
    Workload("read-1m", "1 MiB sequential read, depth 8",
             ["--rw=read", "--bs=1M", "--iodepth=8"], "MiB/s", targets=(*STORED,)),
]

MIXED = [Workload(f"mixed-qd64-c{connections}",
                  f"4 KiB random, 70 % reads, depth 64, {connections_text(connections)}",
                  ["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=64", *jobs(connections)])
         for connections in CONNECTIONS]

FLUSH = [
    Workload("write-flush", "4 KiB random write, then a flush, depth 1",
             ["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fdatasync=1"],
             batch=["--load", "write", "--flush", "--depth", "1"]),
    Workload("write-fua", "4 KiB random write with FUA, depth 1",
             ["--rw=randwrite", "--bs=4k", "--iodepth=1", "--sync=dsync"],
             batch=["--load", "write", "--fua", "--depth", "1"]),
]

CACHED_MIB = 32  # half of what a disk has of the default --read-cache on two reactors
CACHED_TARGETS = ("ours", "raw-cached", "nbdkit-file", "nbd-server", "nbdkit-memory", "null")


def cached_workloads():
    made = [Workload(f"cached-qd{depth}-c{connections}",
                     f"4 KiB random read, cached, depth {depth}, {connections_text(connections)}",
                     ["--rw=randread", "--bs=4k", f"--iodepth={depth}", *jobs(connections)],
                     span_mib=CACHED_MIB)
            for depth, connections in ((1, 1), (64, 1), (64, 4))]
    made += [Workload(f"batch-c{connections}",
                      "4 KiB random read, cached, batching client, depth 64, "
                      + connections_text(connections), [], span_mib=CACHED_MIB,
                      batch=["--depth", "64", "--connections", str(connections)])
             for connections in (1, 2)]
    return made


def measure_blocks(bench, parts):
    """`parts`: those of random, sequential, mixed and flush that are wanted. They share targets."""
    with Stage(bench, "blocks") as stage:
        bench.room(24)
        stage.add(*STORED)
        only_written = stage.add("device3") if "sequential" in parts else []
        for target in stage.targets:
            say(f"filling: {target.title}")
            bench.fill(target, bench.mib(1024))
        all_workloads = {"random": random_workloads(), "sequential": SEQUENTIAL, "mixed": MIXED,
                         "flush": FLUSH}
        for part in parts:
            takers = [target for target in stage.targets
                      if part == "sequential" or target not in only_written]
            bench.interleave(part, all_workloads[part], takers)


def measure_cached(bench):
    with Stage(bench, "cached") as stage:
        bench.room(4)
        stage.daemon_arguments = ("--read-cache", "128M")
        stage.add(*CACHED_TARGETS)
        daemon = stage.daemon
        for target in stage.targets:
            bench.fill(target, CACHED_MIB)
            # Whatever admits blocks on their second use has them then.
            bench.fio(target, "--rw=randread", "--bs=4k", "--iodepth=64", f"--size={CACHED_MIB}M",
                      "--loops=3")
        counter = "clouddisk_read_cache_blocks_total"
        hits = daemon.metric(counter, 'result="hit"')
        misses = daemon.metric(counter, 'result="miss"')
        bench.interleave("cached", cached_workloads(), stage.targets)
        hits = daemon.metric(counter, 'result="hit"') - hits
        misses = daemon.metric(counter, 'result="miss"') - misses
        bench.facts["cached_hit_share"] = hits / (hits + misses) if hits + misses else 0.0
