"""Processes that a benchmark starts: servers that come up and end, and what they take."""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

GIB = 1 << 30
MIB = 1 << 20
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


def say(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)


def die(text):
    say(text)
    sys.exit(1)


def need_programs(packages):
    """Ends the run unless every program is there; `packages`: program to Debian package."""
    missing = [f"{program} (package {package})" for program, package in packages.items()
               if not find_program(program)]
    if missing:
        die("not installed: " + ", ".join(missing))


def find_program(name):
    """Also where only root's PATH leads."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def adopt_orphans():
    """Servers that go into the background become this process's children, so that they can be awaited."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_on_sigterm():
    """As an interrupt does: by an exception, so that everything is cleaned up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def wait_until(ready, alive, what, patience_s=120):
    """Polls until ready() as long as alive(); `what` for the message when it does not come to that."""
    deadline = time.monotonic() + patience_s
    while not ready():
        if not alive() or time.monotonic() > deadline:
            die(f"{what} did not come up")
        time.sleep(0.005)


def end_process(pid, wait, patience_s=120):
    """SIGTERM, and SIGKILL when that does not help; wait() says whether it is gone."""
    deadline = time.monotonic() + patience_s
    try:
        os.kill(pid, signal.SIGTERM)
        while not wait():
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    except ProcessLookupError:
        pass


def reap(pid):
    """Whether a child is gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def answers(uri):
    return subprocess.run(["nbdinfo", "--size", uri], capture_output=True).returncode == 0


class Server:
    """A program that serves `uri` until stop(); its output is in `log`."""

    def __init__(self, command, log, uri, pid_file=None):
        self.log = log
        with open(log, "w") as output:
            # Apart from the terminal: an interrupt is for us, who end it in order.
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        self.pid = process.pid
        if pid_file:  # it goes into the background
            if process.wait() != 0:
                self.fail(command[0])
            wait_until(lambda: os.path.exists(pid_file) and open(pid_file).read().strip(),
                       lambda: True, command[0], 10)
            self.pid = int(open(pid_file).read())
        self.poll = (lambda: reap(self.pid)) if pid_file else (lambda: process.poll() is not None)
        deadline = time.monotonic() + 30
        while not answers(uri):
            if self.poll() or time.monotonic() > deadline:
                self.stop()
                self.fail(command[0])
            time.sleep(0.01)

    def fail(self, program):
        with open(self.log) as output:
            die(f"{program} did not come up: {output.read()}")

    def stop(self):
        end_process(self.pid, self.poll)


def _stat(pid):
    """Of /proc/PID/stat: the parent and the processor time in s, that of children that ended included."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / _TICKS_PER_S


def cpu_seconds(pid):
    """Processor time of a process and everything it started, all threads, user and system."""
    stats = {int(name): stat for name in os.listdir("/proc")
             if name.isdigit() and (stat := _stat(int(name)))}
    if pid not in stats:
        return 0.0
    family, grown = {pid}, True
    while grown:
        more = {child for child, (parent, _) in stats.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return sum(stats[member][1] for member in family)


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
