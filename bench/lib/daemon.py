"""clouddiskd in a folder of its own, and its action API."""
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse

from .processes import die

PATIENCE_S = 900
IDLE_S = 5


class Refused(Exception):
    """The API's answer to an action that it does not carry out; its code."""


class Api(http.client.HTTPConnection):
    """The action API; one connection."""

    def __init__(self, path):
        super().__init__("localhost", timeout=120)
        self.path = path
        self.last_used = 0.0

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def get(self, target):
        # The daemon hangs up on who says nothing for long.
        if time.monotonic() - self.last_used > IDLE_S:
            self.close()
        self.last_used = time.monotonic()
        self.request("GET", target)
        response = self.getresponse()
        return response.status, response.read()

    def __call__(self, action, **parameters):
        query = urllib.parse.urlencode({"Action": action, **parameters})
        status, body = self.get("/?" + query)
        answer = json.loads(body)
        if status != 200:
            raise Refused(answer["Code"])
        return answer

    def timed(self, action, **parameters):
        """The answer and how long it took, in ms."""
        began = time.monotonic()
        answer = self(action, **parameters)
        return answer, 1000 * (time.monotonic() - began)


class Daemon:
    """clouddiskd --no-limits, with more arguments."""

    def __init__(self, build, work, name, *arguments):
        self.root = os.path.join(work, name)
        self.log = open(os.path.join(work, name + ".log"), "w+")
        self.build = build
        self.arguments = arguments
        self.start()

    def start(self, *arguments):
        self.process = subprocess.Popen(
            [self.program("clouddiskd"), "--root", self.root, "--no-limits",
             "--log-level", "warning", *self.arguments, *arguments],
            stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True)
        if self.process.stdout.readline() != "READY\n":
            self.log.seek(0)
            die("clouddiskd did not come up: " + self.log.read())
        self.api = Api(os.path.join(self.root, "api.sock"))

    def program(self, name):
        return os.path.join(self.build, name)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self):
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def remove(self):
        self.stop()
        self.log.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def uri(self, name):
        return f"nbd+unix:///{name}?socket={self.root}/nbd.sock"

    def command(self, *arguments):
        """Runs the command line; what it prints."""
        done = subprocess.run(
            [self.program("clouddisk"), "--root", self.root, *arguments],
            capture_output=True, text=True)
        if done.returncode != 0:
            die(f"clouddisk {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def metric(self, name, *labels):
        """The sum of all series of that name whose labels contain these texts."""
        _, text = self.api.get("/metrics")
        return sum(float(line.rpartition(" ")[2]) for line in text.decode().splitlines()
                   if line.partition("{")[0].partition(" ")[0] == name
                   and all(label in line for label in labels))

    def make_disk(self, gib, **parameters):
        """An attached disk; its id and how long CreateDisk took. gib 0: the snapshot's size."""
        if gib:
            parameters["Size"] = gib
        if "DiskCategory" not in parameters:
            parameters.update(DiskCategory="cloud_essd", PerformanceLevel="PL1")
        answer, took = self.api.timed("CreateDisk", **parameters)
        self.api("AttachDisk", DiskId=answer["DiskId"], InstanceId="i-local")
        return answer["DiskId"], took

    def delete_disk(self, disk):
        self.api("DetachDisk", DiskId=disk, InstanceId="i-local")
        self.api("DeleteDisk", DiskId=disk)

    def snapshot(self, snapshot_id):
        answer = self.api("DescribeSnapshots", SnapshotIds=json.dumps([snapshot_id]))
        return answer["Snapshots"]["Snapshot"][0]

    def take(self, disk):
        """A snapshot, as soon as there is room for one more in progress; its id and the time."""
        while True:
            try:
                answer, took = self.api.timed("CreateSnapshot", DiskId=disk)
                return answer["SnapshotId"], took
            except Refused as refused:
                if str(refused) != "IncorrectDiskStatus.CreatingSnapshot":
                    raise
                time.sleep(0.002)

    def wait_captured(self, snapshot_id):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            shown = self.snapshot(snapshot_id)
            if shown["Status"] == "accomplished":
                return shown
            if shown["Status"] == "failed":
                die(f"the capture failed: {shown.get('Failure')}")
            time.sleep(0.005)
        die(f"{snapshot_id} is not captured after {PATIENCE_S} s")
