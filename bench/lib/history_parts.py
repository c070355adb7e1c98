"""Parts about what a disk has behind it: a random fill, snapshots, overwriting."""
from .measure import Target, Workload
from .peers import Stage
from .processes import say

WRITE = ["--rw=randwrite", "--bs=4k", "--iodepth=64"]
READ = ["--rw=randread", "--bs=4k", "--iodepth=64"]
DIRECT = "direct"

# --- Half of a disk written at random -----------------------------------------------------------

FILLED_GIB = 5
FILLED_TARGETS = ("ours", "quorum", "raw", "qcow2", "nbdkit-file", "nbd-server", "device")


def measure_filled(bench):
    """All targets side by side, each filled once: that takes the slowest of them minutes."""
    mib = bench.mib(FILLED_GIB * 1024)
    write, read = (Workload(f"filled-{rw}", f"4 KiB random {rw}, depth 64", arguments,
                            span_mib=FILLED_GIB * 1024)
                   for rw, arguments in (("write", WRITE), ("read", READ)))
    with Stage(bench, "filled", FILLED_GIB) as stage:
        bench.room(60)
        targets = []
        for key in FILLED_TARGETS:
            if not bench.wants_target(key):
                continue
            target, = stage.add(key)
            say(f"filling: {target.title}")
            # Each of these blocks once.
            bench.fio(target, *WRITE, f"--size={mib}M", f"--io_size={mib // 2}M")
            targets.append(target)
        bench.interleave("filled", [read], targets)  # of what the fill left, before it is more
        bench.interleave("filled", [write], targets)
        bench.finish("filled")
        say("removing the files; their many fragments may take minutes")


# --- Snapshots ----------------------------------------------------------------------------------

SNAPSHOTS_MIB = 512
SNAPSHOT_COUNTS = (0, 10, 100)
WRITES_BETWEEN = 1024  # blocks: 4 MiB


def change(bench, target, mib, times):
    bench.fio(target, *WRITE, f"--size={mib}M", "--norandommap",
              f"--number_ios={WRITES_BETWEEN * times}")


def measure_snapshots(bench):
    """Disks of one daemon with the same writes behind them; some have snapshots between these."""
    mib = bench.mib(SNAPSHOTS_MIB)
    workloads = [Workload(f"snapshots-{rw}", f"4 KiB random {rw}, depth 64", arguments,
                          span_mib=SNAPSHOTS_MIB)
                 for rw, arguments in (("write", WRITE), ("read", READ))]
    with Stage(bench, "snapshots") as stage:
        bench.room(22)
        daemon = stage.add_daemon()
        targets = []
        for count in SNAPSHOT_COUNTS:
            say(f"making a disk with {count} snapshots")
            disk, _ = daemon.make_disk(20)
            title = f"{count} snapshots" if count else "no snapshot"
            target = Target(f"snapshots-{count}", title, DIRECT, daemon.uri(disk), daemon.pid)
            bench.fill(target, mib)
            for _ in range(count):
                taken, _ = daemon.take(disk)
                change(bench, target, mib, 1)
                daemon.wait_captured(taken)
            if left := SNAPSHOT_COUNTS[-1] - count:
                change(bench, target, mib, left)
            targets.append(target)
        bench.interleave("snapshots", workloads, targets)


# --- Compaction ---------------------------------------------------------------------------------

OVERWRITES = 5


def compacted_mib(daemon):
    return daemon.metric("clouddisk_disk_compacted_bytes_total") / (1 << 20)


def measure_compaction(bench):
    """Every round a new daemon and disk: fresh, then overwritten at random while space is reclaimed."""
    mib = bench.mib(1024)
    workloads = [Workload(f"compaction-{rw}", f"4 KiB random {rw}, depth 64", arguments)
                 for rw, arguments in (("write", WRITE), ("read", READ))]
    moved = {workload.key: [] for workload in workloads}
    for round_index in range(bench.options.rounds):
        say(f"compaction, round {round_index + 1} of {bench.options.rounds}")
        with Stage(bench, "compaction") as stage:
            bench.room(20)
            daemon = stage.add_daemon()
            disk, _ = daemon.make_disk(20)
            target = Target("fresh", "fresh", DIRECT, daemon.uri(disk), daemon.pid)
            bench.fill(target, mib)
            for workload in reversed(workloads):  # the write last: it makes garbage
                bench.measure("compaction", workload, target, round_index)
            bench.fio(target, *WRITE, f"--size={mib}M", "--norandommap",
                      f"--io_size={OVERWRITES * mib}M")
            target = Target("compacting", f"overwritten {OVERWRITES} times", DIRECT,
                            daemon.uri(disk), daemon.pid)
            for workload in workloads:
                before = compacted_mib(daemon)
                bench.measure("compaction", workload, target, round_index)
                moved[workload.key].append(compacted_mib(daemon) - before)
    for key, samples in moved.items():
        bench.facts[f"{key}_moved_mib"] = samples
        if not all(samples):
            bench.note(f"{key}: in {sum(not moved_mib for moved_mib in samples)} of {len(samples)} "
                       "rounds compaction moved nothing meanwhile; these are no figures of it")
