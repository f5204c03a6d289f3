"""Keeps the protocol of handlers/worker.py with the standard library alone. A handler is a module with `answer(body)`."""

import faulthandler
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback


def zygote():
    control = socket.socket(fileno=os.dup(0))
    mode = os.environ.get("STANDIN", "")
    about = {"executable": sys.executable, "prefix": os.environ.get("PREFIX", sys.prefix)}
    if mode == "missing":
        control.send(json.dumps({"event": "failed", "kind": "litellm_missing", "error": "x", **about}).encode())
        sys.exit(1)
    if mode == "exit":
        sys.exit(7)
    if mode == "mute":
        time.sleep(600)
    control.send(json.dumps({"event": "ready", "python": "3", "litellm": "1", **about}).encode())
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    workers = {}
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            woken.recv(100)
            while workers:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                kill_group(pid, signal.SIGKILL)
                how = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}
                control.send(json.dumps({"event": "exited", "id": workers.pop(pid), "pid": pid, **how}).encode())
        if control in readable:
            packet, fds, _, _ = socket.recv_fds(control, 65536, 5, socket.MSG_CMSG_CLOEXEC)
            if not packet:
                for pid in workers:
                    kill_group(pid, signal.SIGKILL)
                sys.exit(0)
            message = json.loads(packet)
            if message["verb"] == "spawn":
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    control.close()
                    worker(*fds)
                workers[pid] = message["id"]
                if mode == "late":
                    time.sleep(0.3)
                control.send(json.dumps({"event": "spawned", "id": message["id"], "pid": pid}).encode())
                for fd in fds:
                    os.close(fd)
            else:
                for pid, number in workers.items():
                    if number == message["id"]:
                        (os.kill if message["signal"] == signal.SIGUSR1 else kill_group)(pid, message["signal"])


def kill_group(pid, number):
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def worker(listener, status, stdout, stderr, spec):
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    told = json.load(os.fdopen(os.dup(spec)) if os.lseek(spec, 0, 0) == 0 else None)
    status = socket.socket(fileno=status)
    listener = socket.socket(fileno=listener)
    ending = threading.Event()
    threading.Thread(target=obey, args=(status, ending), daemon=True).start()
    say = lambda message: status.sendall(json.dumps(message).encode() + b"\n")
    sys.path.insert(0, told["directory"])
    module = {"STATUS": status}
    files = lambda: [told["file"]] + [m.__file__ for m in list(sys.modules.values()) if (getattr(m, "__file__", None) or "").startswith(told["directory"])]
    try:
        with open(told["file"]) as file:
            exec(compile(file.read(), told["file"], "exec"), module)
    except BaseException as error:
        words = f"{type(error).__name__}: {error}"
        say({"failed": {"kind": "import", "error": words, "traceback": traceback.format_exc(), "files": files()}})
        os._exit(1)
    say({"ready": {"class": told["class_name"], "methods": ["answer"], "style": "direct", "warnings": [], "files": files(), "python": "3", "litellm": "1"}})
    beaten = 0
    while not ending.is_set():
        if time.monotonic() - beaten > 0.25:
            beaten = time.monotonic()
            status.sendall(b"\n")
        if select.select([listener], [], [], 0.05)[0]:
            connection, _ = listener.accept()
            if module.get("BLOCKS"):
                serve(connection, module["answer"])
            else:
                threading.Thread(target=serve, args=(connection, module["answer"]), daemon=True).start()
    os._exit(0)


def obey(status, ending):
    line = b""
    while True:
        got = status.recv(1000)
        if not got:
            os._exit(0)
        line += got
        if b"drain" in line:
            ending.set()


def serve(connection, answer):
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    head, body = request.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    out = answer(body.decode()).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(out), out))
    connection.close()


zygote()
