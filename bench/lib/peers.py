"""Starts clouddiskd and what else could serve a disk from this host, each in one folder."""
import os
import shutil
import socket
import subprocess

from .daemon import Daemon
from .measure import Target
from .processes import Server

# key: title, how it reaches storage
PEERS = {
    "ours": ("clouddisk, 3 replicas", "direct"),
    "quorum": ("qemu-nbd quorum of 3 qcow2", "direct"),
    "raw": ("qemu-nbd raw", "direct"),
    "qcow2": ("qemu-nbd qcow2", "direct"),
    "raw-cached": ("qemu-nbd raw", "page cache"),
    "nbdkit-file": ("nbdkit file", "page cache"),
    "nbd-server": ("nbd-server", "page cache"),
    "nbdkit-memory": ("nbdkit memory", "no storage"),
    "null": ("empty batching server", "no storage"),
    "device": ("fio on a raw file, no NBD", "direct"),
    "device3": ("fio on 3 raw files at once, a third", "direct"),
}
CONNECTIONS_MAX = 16


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Stage:
    """Targets that run at the same time, from files in one folder, which is removed at the end."""

    def __init__(self, bench, name, gib=20):
        self.bench = bench
        self.gib = gib
        self.folder = bench.folder(name)
        self.running = []
        self.daemon = None
        self.daemon_arguments = ("--read-cache", "0")
        self.targets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self.running):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, *keys):
        """Starts those that are wanted; returns them."""
        added = [self._start(key) for key in keys if self.bench.wants_target(key)]
        self.targets += added
        return added

    def path(self, name):
        return os.path.join(self.folder, name)

    def _start(self, key):
        starter = getattr(self, "_start_" + key.replace("-", "_"))
        return Target(key, *PEERS[key], **starter())

    def _start_ours(self):
        daemon = self.add_daemon()
        disk, _ = (daemon.make_disk(self.gib) if self.gib >= 20  # less is had in one category alone
                   else daemon.make_disk(self.gib, DiskCategory="cloud"))
        return {"uri": daemon.uri(disk), "pid": daemon.pid}

    def add_daemon(self):
        self.daemon = Daemon(self.bench.options.build, self.folder, "ours", *self.daemon_arguments)
        self.running.append(self.daemon)
        return self.daemon

    def _serve(self, name, command, export="", pid_file=None):
        uri = f"nbd+unix:///{export}?socket={self.path(name + '.sock')}"
        server = Server(command, self.path(name + ".log"), uri, pid_file)
        self.running.append(server)
        return {"uri": uri, "pid": server.pid}

    def _image(self, name, kind):
        path = self.path(name + "." + kind)
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, path, f"{self.gib}G"], check=True)
        return path

    def _qemu(self, name, *arguments):
        return self._serve(name, ["qemu-nbd", "--persistent", f"--shared={CONNECTIONS_MAX}",
                                  f"--socket={self.path(name + '.sock')}", *arguments])

    def _start_raw(self):
        return self._qemu("raw", "--cache=none", "--aio=io_uring", "--format=raw",
                          self._image("raw", "raw"))

    def _start_raw_cached(self):
        return self._qemu("raw-cached", "--cache=writeback", "--format=raw",
                          self._image("raw-cached", "raw"))

    def _start_qcow2(self):
        return self._qemu("qcow2", "--cache=none", "--aio=io_uring", "--format=qcow2",
                          self._image("single", "qcow2"))

    def _start_quorum(self):
        options = ["driver=quorum,vote-threshold=2"]
        for index in range(3):
            child = f"children.{index}"
            options += [f"{child}.driver=qcow2", f"{child}.file.driver=file",
                        f"{child}.file.filename={self._image(f'quorum-{index}', 'qcow2')}",
                        f"{child}.file.cache.direct=on", f"{child}.file.aio=io_uring"]
        return self._qemu("quorum", "--image-opts", ",".join(options))

    def _start_nbdkit_file(self):
        return self._serve("nbdkit-file", ["nbdkit", "--foreground", "--exit-with-parent", "--unix",
                                           self.path("nbdkit-file.sock"), "file",
                                           self._image("nbdkit-file", "raw")])

    def _start_nbdkit_memory(self):
        return self._serve("nbdkit-memory", ["nbdkit", "--foreground", "--exit-with-parent", "--unix",
                                             self.path("nbdkit-memory.sock"), "memory", "2G"])

    def _start_nbd_server(self):
        image = self._image("nbd-server", "raw")
        config, pid_file = self.path("nbd-server.conf"), self.path("nbd-server.pid")
        with open(config, "w") as file:
            # A TCP port belongs to it whether anybody asks or not, and 0 is none to it.
            file.write(f"[generic]\nunixsock = {self.path('nbd-server.sock')}\n"
                       f"listenaddr = 127.0.0.1\nport = {free_port()}\nallowlist = true\n"
                       f"[disk]\nexportname = {image}\nflush = true\nfua = true\n")
        return self._serve("nbd-server", ["nbd-server", "-C", config, "-p", pid_file], "disk",
                           pid_file)

    def _start_null(self):
        return self._serve("null", [self.bench.options.nbd_batch, "--serve",
                                    self.path("null.sock"), "--size", f"{self.gib}G"])

    def _start_device(self):
        return {"engine": ["--ioengine=io_uring", "--direct=1", f"--filename={self.path('device')}"]}

    def _start_device3(self):
        return {"engine": ["--ioengine=io_uring", "--direct=1", f"--directory={self.folder}",
                           "--filename_format=device3-$jobnum", "--numjobs=3", "--group_reporting"],
                "share": 3}
