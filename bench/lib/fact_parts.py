"""What only we are asked: opening a 32 TiB disk, recovery after kill -9, memory of a full disk."""
import os
import shutil
import subprocess
import time

from .daemon import Daemon
from .measure import Target
from .processes import die, rss_mib, say

OPEN_GIB = 32768


def ms_since(began):
    return 1000 * (time.monotonic() - began)


def timed_ms(what):
    began = time.monotonic()
    what()
    return ms_since(began)


def target_of(daemon, disk):
    return Target("ours", "clouddisk", "direct", daemon.uri(disk), daemon.pid)


def exported_bytes(uri):
    return int(subprocess.run(["nbdinfo", "--size", uri], check=True, capture_output=True,
                              text=True).stdout)


def measure_open(bench):
    say("opening a 32 TiB disk")
    with Daemon(bench.options.build, bench.work, "open") as daemon:
        daemon.command("disk", "list")
        before = rss_mib(daemon.pid)
        facts = bench.facts
        facts["command_ms"] = timed_ms(lambda: daemon.command("disk", "list"))
        began = time.monotonic()
        disk = daemon.command("disk", "create", "--size", str(OPEN_GIB), "--performance-level",
                              "PL1")
        facts["create_ms"] = ms_since(began)
        facts["attach_ms"] = timed_ms(lambda: daemon.command("disk", "attach", disk))
        began = time.monotonic()
        if exported_bytes(daemon.uri(disk)) != OPEN_GIB << 30:
            die("the 32 TiB disk has another size")
        facts["connect_ms"] = ms_since(began)
        facts["open_rss_mib"] = rss_mib(daemon.pid)
        facts["open_growth_mib"] = facts["open_rss_mib"] - before


def measure_recovery(bench):
    """With most of a gibibyte in the log after the last checkpoint.

    The daemon writes one by itself at 1 GiB of log, hence 960 MiB, and hence a new disk for each.
    """
    for name, arguments in (("sequential", ["--rw=write", "--bs=1M", "--iodepth=8"]),
                            ("random", ["--rw=randwrite", "--bs=4k", "--iodepth=64"])):
        say(f"recovery after kill -9: {name}")
        with Daemon(bench.options.build, bench.work, "recovery") as daemon:
            disk, _ = daemon.make_disk(20)
            bench.fio(target_of(daemon, disk), "--size=1G", f"--io_size={bench.mib(960)}M",
                      *arguments)
            daemon.kill()
            began = time.monotonic()
            daemon.start()
            bench.facts[f"{name}_ready_ms"] = ms_since(began)
            exported_bytes(daemon.uri(disk))
            bench.facts[f"{name}_served_ms"] = ms_since(began)


def measure_fill(bench):
    gib = bench.options.fill_gib
    if not gib:
        return
    free = shutil.disk_usage(bench.work).free >> 30
    if free * 100 < 115 * gib:
        bench.note(f"--fill-gib {gib} skipped: it takes {115 * gib // 100} GiB at least, "
                   f"{free} GiB are free")
        return
    single = free < 4 * gib
    say(f"filling {gib} GiB of a 100 GiB disk" + (", with one replica" if single else ""))
    with Daemon(bench.options.build, bench.work, "filled-daemon") as daemon:
        if single:  # make the set, then let two replicas be lost for good
            daemon.stop()
            for replica in (2, 3):
                folder = os.path.join(daemon.root, f"replica-{replica}")
                shutil.rmtree(folder)
                open(folder, "w").close()
            daemon.start("--trust-replica", "1")
        disk, _ = daemon.make_disk(100)
        target = target_of(daemon, disk)
        facts = bench.facts
        facts["filled_gib"], facts["filled_replicas"] = gib, 1 if single else 3
        facts["fill_before_mib"] = rss_mib(daemon.pid)
        bench.fill(target, gib * 1024)
        facts["filled_rss_mib"] = rss_mib(daemon.pid)
        bench.fio(target, "--rw=randrw", "--bs=4k", "--iodepth=64", f"--size={gib}G",
                  "--time_based", "--runtime=20")
        facts["churned_rss_mib"] = rss_mib(daemon.pid)


def measure_facts(bench):
    measure_open(bench)
    measure_recovery(bench)
    measure_fill(bench)
