"""The part with file systems: ext4 on every target, a database and fio's file jobs in it.

Everything is mounted the same way, nbdfuse and a loop device, which hosts without the kernel's nbd
driver have; `clouddisk disk mount` does it for ours, without the relay that the others lack.
"""
import os
import sqlite3
import subprocess
import time

from .load import LATENCY, fio_figures, run_fio
from .measure import Workload
from .peers import Stage
from .processes import end_process, find_program, say, wait_until

FILE_TARGETS = ("ours", "quorum", "raw", "qcow2", "nbdkit-file", "nbd-server", "device")
NBDFUSE_CONNECTIONS = 4

SQLITE = Workload("sqlite", "sqlite: a transaction of 10 rows, WAL, synchronous=FULL", [], "per s")
FIO_FILES = [
    Workload("files-sync", "fio: 4 jobs, 4 KiB random writes to files, fdatasync after 8",
             ["--ioengine=psync", "--rw=randwrite", "--bs=4k", "--numjobs=4", "--group_reporting",
              "--nrfiles=4", "--size=32M", "--fdatasync=8"]),
    Workload("files-direct", "fio: 4 KiB random 70 % reads of a file, O_DIRECT, depth 32",
             ["--ioengine=io_uring", "--direct=1", "--rw=randrw", "--rwmixread=70", "--bs=4k",
              "--iodepth=32", "--size=256M"]),
    Workload("files-stream", "fio: a file written in order by 1 MiB, fdatasync after 64 MiB",
             ["--ioengine=psync", "--rw=write", "--bs=1M", "--size=256M", "--fdatasync=64"],
             "MiB/s"),
]


def can_mount():
    """Why it can't be done here; empty: it can."""
    if os.geteuid() != 0:
        return "mounting takes root"
    if not os.path.exists("/dev/fuse"):
        return "this host has no /dev/fuse"
    return ""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


def again(*command, patience_s=20):
    """Repeated while it fails: what a client had open may take a moment to be closed."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return run(*command)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Mounted:
    """ext4 on a target, at `directory`. Undone by close(), also when it was not quite made."""

    def __init__(self, stage, target):
        self.undo = []
        self.directory = stage.path(f"mnt-{target.key}")
        os.mkdir(self.directory)
        try:
            if target.key == "ours":
                self._by_our_command(stage, target)
            else:
                self._by_hand(stage, target)
        except BaseException:
            self.close()
            raise

    def close(self):
        """Everything that can be undone, whatever fails of it."""
        while self.undo:
            try:
                self.undo.pop()()
            except RuntimeError as failure:
                say(f"left behind: {failure}")

    def _by_our_command(self, stage, target):
        disk = target.uri.split("///")[1].split("?")[0]
        stage.daemon.command("disk", "mount", disk, self.directory, "--mkfs", "ext4", "--via",
                             "fuse", "--no-relay")
        self.undo.append(lambda: again(stage.daemon.program("clouddisk"), "--root",
                                       stage.daemon.root, "disk", "umount", disk))

    def _by_hand(self, stage, target):
        if target.uri:
            backing = self._nbdfuse(stage, target)
        else:
            backing = stage.path("mounted-device")
            run("truncate", "-s", f"{stage.gib}G", backing)
        loop = run(find_program("losetup"), "--direct-io=on", "--show", "-f", backing)
        self.undo.append(lambda: run(find_program("losetup"), "-d", loop))
        run(find_program("mkfs.ext4"), "-q", "-F", loop)
        run("mount", loop, self.directory)
        self.undo.append(lambda: again("umount", self.directory))

    def _nbdfuse(self, stage, target):
        folder, ready = stage.path(f"fuse-{target.key}"), stage.path(f"fuse-{target.key}.pid")
        os.mkdir(folder)
        log = open(stage.path(f"fuse-{target.key}.log"), "w")
        process = subprocess.Popen(
            ["nbdfuse", "-C", str(NBDFUSE_CONNECTIONS), "-P", ready, folder + "/disk", target.uri],
            stdout=log, stderr=log, start_new_session=True)

        def end():
            again("fusermount3", "-u", folder)  # the loop device may still be letting go
            end_process(process.pid, lambda: process.poll() is not None)
            log.close()
        wait_until(lambda: os.path.exists(ready) and os.path.getsize(ready) > 0,
                   lambda: process.poll() is None, f"nbdfuse of {target.title}", 30)
        self.undo.append(end)
        return folder + "/disk"


def transactions_per_s(directory, seconds):
    path = os.path.join(directory, "bench.db")
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT)")
        count, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            database.execute("BEGIN")
            database.executemany("INSERT INTO t (text) VALUES (?)",
                                 [(f"row {count} {index} " + "x" * 100,) for index in range(10)])
            database.execute("COMMIT")
            count += 1
        return count / (time.monotonic() - began)
    finally:
        database.close()
        os.remove(path)


def measure_files(bench):
    with Stage(bench, "files") as stage:
        bench.room(20)
        stage.add(*FILE_TARGETS)
        mounts = {}
        try:
            for target in stage.targets:
                say(f"mounting: {target.title}")
                mounts[target.key] = Mounted(stage, target)
            for round_index in range(bench.options.rounds):
                for workload in (SQLITE, *FIO_FILES):
                    say(f"files, round {round_index + 1} of {bench.options.rounds}: "
                        f"{workload.title}")
                    for index in range(len(stage.targets)):
                        target = stage.targets[(index + round_index) % len(stage.targets)]
                        measure_in(bench, workload, target, mounts[target.key], round_index)
        finally:
            for mounted in mounts.values():
                mounted.close()


def measure_in(bench, workload, target, mounted, round_index):
    seconds = bench.options.seconds
    if workload is SQLITE:
        bench.add("files", workload, target, round_index,
                  transactions_per_s(mounted.directory, seconds))
        return
    job = run_fio(["fio", f"--name={workload.key}", f"--directory={mounted.directory}",
                   "--output-format=json", "--eta=never", "--randrepeat=0", "--time_based",
                   f"--runtime={seconds}", *LATENCY, *workload.fio])
    figures = fio_figures(job)
    bench.add("files", workload, target, round_index,
              figures["mib_s" if workload.unit == "MiB/s" else "iops"],
              p50_us=figures["p50_us"], p99_us=figures["p99_us"])
