"""The clients: fio, and nbd_batch of this folder."""
import json
import os
import signal
import statistics
import subprocess

from .processes import die

# Of the whole request: io_uring may do all of it while it is handed over, which clat leaves out.
LATENCY = ["--lat_percentiles=1", "--clat_percentiles=0"]


def engine_command(engine, *arguments):
    """fio with what names the place that it works on."""
    return ["fio", "--name=point", *engine, "--randrepeat=0", "--output-format=json",
            "--eta=never", *arguments]


def nbd_engine(uri):
    return ["--ioengine=nbd", f"--uri={uri}"]


def fio_command(uri, *arguments):
    """fio as an NBD client."""
    return engine_command(nbd_engine(uri), *arguments)


def run_client(command):
    """Status, output and errors. Its processes, fio has one for each job, end with an interrupt."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as client:
        try:
            output, errors = client.communicate()
        except BaseException:
            os.killpg(client.pid, signal.SIGKILL)
            raise
        return client.returncode, output, errors


def run_fio(command):
    """The job that a command of one job or of one group measured."""
    status, output, errors = run_client(command)
    if status != 0 or "{" not in output:
        die(f"{' '.join(command)} failed: {output} {errors}")
    return json.loads(output[output.index("{"):])["jobs"][0]


def fio(uri, *arguments):
    return run_fio(fio_command(uri, *arguments))


def fio_figures(job):
    """Rates of a job's reads and writes together; latencies (with LATENCY) of the slower of them."""
    sides = [job[side] for side in ("read", "write") if job[side]["total_ios"] > 0]

    def slowest(percentile):
        return max((side["lat_ns"]["percentile"][percentile] / 1000 for side in sides
                    if "percentile" in side["lat_ns"]), default=0.0)
    return {"iops": sum(side["iops"] for side in sides),
            "mib_s": sum(side["bw_bytes"] for side in sides) / (1 << 20),
            "operations": sum(side["total_ios"] for side in sides),
            "p50_us": slowest("50.000000"), "p99_us": slowest("99.000000")}


def run_batch(program, uri, *arguments):
    status, output, errors = run_client([program, "--uri", uri, *arguments])
    if status != 0:
        die(f"{program} {' '.join(arguments)} failed at {uri}: {errors}")
    answer = json.loads(output)
    return {"iops": answer["iops"], "mib_s": answer["bytes_per_second"] / (1 << 20),
            "operations": answer["operations"], "p50_us": answer["latency_us"]["p50"],
            "p99_us": answer["latency_us"]["p99"]}


def spread(samples):
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}
