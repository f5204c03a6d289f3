#!/usr/bin/env python3
"""What a handler's call costs: through Outrider, through LiteLLM's proxy, and in-process, in turns on one machine.

    python3 benches/handler.py --python VENV/bin/python [--rounds 5] [--secs 3] [--binary target/release/outrider]

VENV needs `litellm[proxy]`; without the proxy's packages that row is left out. Load comes from `wrk`. All processes of a
peer run on one core, the load on the other. What counts is CPU time per call, by the kernel's own accounting, of all
processes of a peer together; p50 is told beside it.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HANDLER = """\
from litellm import CustomLLM, ModelResponse


class Handler(CustomLLM):
    async def acompletion(self, model, messages, %s**kwargs):
        return ModelResponse(
            model=model,
            choices=[{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
            usage={"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        )


handler = Handler()
"""
BODY = json.dumps({"model": "m", "temperature": 0.5, "max_tokens": 64, "messages": [{"role": "user", "content": "hello " * 120}]})
IN_PROCESS = """\
import asyncio, json, sys, time
sys.path.insert(0, sys.argv[1])
import direct_handler
body = json.loads(sys.argv[2])

async def main(seconds):
    handler, calls = direct_handler.handler, 0
    end, cpu = time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        for _ in range(100):
            flat = {k: v for k, v in json.loads(sys.argv[2]).items() if k not in ("model", "messages")}
            answer = await handler.acompletion(body["model"], body["messages"], api_base="", custom_llm_provider="h", **flat)
            answer.model_dump_json(exclude_none=True)
        calls += 100
    print(json.dumps([(time.process_time() - cpu) * 1e6 / calls, seconds * 1e3 / calls]))

asyncio.run(main(float(sys.argv[3])))
"""
WRK = """\
wrk.method, wrk.headers["content-type"] = "POST", "application/json"
wrk.body = [==[%s]==]
function done(summary, latency)
  io.write(string.format("RESULT %%d %%d %%f\\n", summary.requests, summary.errors.status + summary.errors.read + summary.errors.timeout, latency:percentile(50)))
end
"""
TICK = os.sysconf("SC_CLK_TCK")
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_OFFLINE_MODE": "true", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION",
         "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # fmt: skip


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def tree(root):
    """The process ids of `root` and all below it; children that were adopted by it count too."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{name}/stat").read().rpartition(") ")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(name))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += parents.get(pid, [])
    return found


def cpu(pids):
    """Seconds of CPU that `pids` have used: nanoseconds of the scheduler where it tells them."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            total += int(open(f"/proc/{pid}/task/{task}/schedstat").read().split()[0])
    return total / 1e9


def private(pid):
    text = open(f"/proc/{pid}/smaps_rollup").read()
    return sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.M)) / 1024


class Peer:
    """One server that answers with the handler."""

    def __init__(self, name, argv, port, path, log, env):
        self.name, self.port, self.path = name, port, path
        self.process = subprocess.Popen(["taskset", "-c", "0", *argv], stdout=open(log, "wb"), stderr=subprocess.STDOUT, env=env)
        self.log = log

    def wait(self):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.path}", BODY.encode(), {"content-type": "application/json"})
                answer = json.load(urllib.request.urlopen(request, timeout=10))
                assert answer["choices"][0]["message"]["content"] == "hello", answer
                return
            except OSError:
                time.sleep(0.2)
        sys.exit(f"{self.name} does not answer: {open(self.log, errors='replace').read()[-2000:]}")

    def load(self, script, connections, seconds):
        """CPU microseconds a call, p50 in milliseconds, and how many calls there were."""
        pids = tree(self.process.pid)
        before = cpu(pids)
        out = subprocess.run(
            ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{self.port}{self.path}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        used = cpu(pids) - before
        calls, failed, p50 = re.search(r"RESULT (\d+) (\d+) ([\d.]+)", out).groups()
        if int(failed):
            sys.exit(f"{failed} calls of {self.name} failed")
        return used * 1e6 / int(calls), float(p50) / 1e3, int(calls)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def outrider(binary, python, folder):
    port, admin = free_port(), free_port()
    open(f"{folder}/outrider.toml", "w").write(f"""
[server]
listen = "127.0.0.1:{port}"
workers = 1
[admin]
listen = "127.0.0.1:{admin}"
[handlers]
enabled = true
directory = "{folder}"
python = "{python}"
workers = 1
[integrations.h]
endpoint = "http://127.0.0.1:9/v1"
authentication_type = "none"
models = ["m"]
custom_llm_config = {{ file_name = "direct_handler.py", class_name = "Handler" }}
""")
    peer = Peer("outrider + worker", [binary, "--config", f"{folder}/outrider.toml"], port, "/h/v1/chat/completions", f"{folder}/outrider.log", os.environ)
    peer.admin = admin
    return peer


def litellm(python, folder):
    command = os.path.join(os.path.dirname(python), "litellm")
    if not os.path.exists(command) or subprocess.run([python, "-c", "import fastapi, uvicorn, orjson"], capture_output=True).returncode:
        print("litellm[proxy] is not installed beside that python: its row is left out", file=sys.stderr)
        return None
    port = free_port()
    open(f"{folder}/litellm.yaml", "w").write("""
model_list:
  - {model_name: m, litellm_params: {model: own/m}}
litellm_settings:
  telemetry: false
  custom_provider_map: [{provider: own, custom_handler: proxy_handler.handler}]
""")
    argv = [command, "--config", f"{folder}/litellm.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return Peer("litellm proxy", argv, port, "/v1/chat/completions", f"{folder}/litellm.log", {**os.environ, **QUIET})


def in_process(python, folder, seconds):
    argv = ["taskset", "-c", "0", python, "-c", IN_PROCESS, folder, BODY, str(seconds)]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, **QUIET}).stdout.splitlines()[-1])


def restarts(peer, times):
    """Milliseconds from the death of a worker to the answer of its successor, and the worker's private megabytes."""
    took, megabytes = [], []
    for _ in range(times):
        state = json.load(urllib.request.urlopen(f"http://127.0.0.1:{peer.admin}/integrations"))
        worker = state["integrations"][0]["handler"]["workers"][0]["pid"]
        megabytes.append(private(worker))
        os.kill(worker, signal.SIGKILL)
        began = time.monotonic()
        while True:
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{peer.port}{peer.path}", BODY.encode(), {"content-type": "application/json"})
                urllib.request.urlopen(request, timeout=10).read()
                break
            except OSError:
                pass
        took.append((time.monotonic() - began) * 1e3)
        time.sleep(0.5)
    return took, megabytes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True)
    parser.add_argument("--binary", default="target/release/outrider")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=int, default=3)
    args = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed")
    python, rows = os.path.abspath(args.python), {}
    with tempfile.TemporaryDirectory() as folder:
        open(f"{folder}/direct_handler.py", "w").write(HANDLER % "api_base, custom_llm_provider, ")
        open(f"{folder}/proxy_handler.py", "w").write(HANDLER % "")
        open(f"{folder}/post.lua", "w").write(WRK % BODY)
        peers = [outrider(os.path.abspath(args.binary), python, folder), litellm(python, folder)]
        peers = [peer for peer in peers if peer]
        try:
            for peer in peers:
                peer.wait()
                peer.load(f"{folder}/post.lua", 8, 1)
            for number in range(args.rounds):
                for peer in peers if number % 2 else reversed(peers):
                    for connections in (1, 32):
                        used, p50, _ = peer.load(f"{folder}/post.lua", connections, args.secs)
                        rows.setdefault((peer.name, connections), []).append((used, p50))
                rows.setdefault(("in-process", 1), []).append(tuple(in_process(python, folder, args.secs)))
            took, megabytes = restarts(peers[0], 10)
        finally:
            for peer in peers:
                peer.stop()
    base = statistics.median(used for used, _ in rows["in-process", 1])
    print(f"{'':20} {'calls at once':>13} {'CPU us/call':>12} {'min-max':>16} {'over in-process':>16} {'p50 ms':>8}")
    for (name, connections), runs in sorted(rows.items()):
        used = [run[0] for run in runs]
        print(f"{name:20} {connections:13} {statistics.median(used):12.1f} {min(used):7.0f}-{max(used):<8.0f} {statistics.median(used) - base:14.1f} {statistics.median(run[1] for run in runs):10.3f}")
    print(f"worker killed to answer of the next: median {statistics.median(took):.0f} ms of {len(took)}; private memory of a worker {statistics.median(megabytes):.1f} MB")


if __name__ == "__main__":
    main()
