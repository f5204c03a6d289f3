"""Runs customers' handlers (classes derived from litellm.CustomLLM) for Outrider.

Outrider starts this file once per Python interpreter. That process, the zygote, imports litellm (seconds, 200 MiB) and then
only waits on its control socket (standard input): for each worker that Outrider asks for it forks, which takes
milliseconds and shares the memory. A worker loads one handler and answers OpenAI requests over HTTP on a Unix socket
that Outrider made. The zygote never runs a handler's code; a handler can break no more than its own worker.

The file reads from top to bottom: 1 zygote, 2 worker, 3 loading, 4 calling, 5 answers, 6 errors, 7 HTTP.
Python 3.9 or newer, the standard library, litellm and aiohttp.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import faulthandler
import fcntl
import functools
import gc
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import re
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import uuid
from typing import Any, AsyncIterator, Callable, Iterable, NamedTuple, NoReturn, Optional

HEARTBEAT = 0.25  # seconds between the signs of life of a worker's event loop
PACKET = 65536  # most bytes of a control message
PRIVATE = 512  # descriptors that are ours have numbers from here on, out of the way of handlers that close what they did not open
MESSAGE = 2048  # most characters of an error's message that a client gets
TRACEBACK = 65536  # most characters of a traceback in the log
END = object()  # what `next` gives at the end of an iterator

# ---------------------------------------------------------------------------------------------------------------------
# 1. The zygote
# ---------------------------------------------------------------------------------------------------------------------


def main() -> int:
    control = socket.socket(fileno=make_private(0, keep=True))
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, ignore)  # meant for Outrider, which ends us by closing the control socket
    zygote = Zygote(control)
    try:
        zygote.say(import_libraries())
    except BaseException as error:
        traceback.print_exc()
        zygote.say(import_failure(error))
        return 1
    zygote.serve()
    return 0


def ignore(number: int, frame: Any) -> None:
    """Unlike SIG_IGN, a function is not handed on to the programs that a handler starts."""


def make_private(fd: int, keep: bool = False) -> int:
    """Moves `fd` to a high number where the limit allows, closed on exec."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, PRIVATE)
    except OSError:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    if not keep:
        os.close(fd)
    return moved


def import_libraries() -> dict:
    """Imports what all workers share and tells what was found. What is made here once, no worker pays for."""
    gc.disable()
    import ctypes  # noqa: F401  for `confine`

    import litellm
    from aiohttp import web  # noqa: F401

    litellm.suppress_debug_info = True
    litellm.ModelResponse().model_dump_json()
    litellm.CustomLLM  # noqa: B018  a litellm too old to have it is of no use
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        print(f"importing litellm left {threads - 1} threads: a fork may inherit their locks", file=sys.stderr)
    gc.enable()
    gc.collect()
    gc.freeze()
    return {"event": "ready", **interpreter(), **versions()}


def import_failure(error: BaseException) -> dict:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    kinds = {"litellm": "litellm_missing", "aiohttp": "aiohttp_missing"}
    kind = kinds.get(missing or "") or ("other" if "litellm" in sys.modules else "litellm_broken")
    return {"event": "failed", "kind": kind, **interpreter(), "error": one_line(error)}


def interpreter() -> dict:
    return {"executable": sys.executable, "prefix": sys.prefix}


class Zygote:
    """Forks, signals and reaps workers as the control socket tells it."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.workers: dict[int, int] = {}  # process id -> the number Outrider gave it
        self.woken, self.waker = socket.socketpair()

    def serve(self) -> None:
        """Returns when Outrider has closed the control socket; no worker outlives that."""
        self.woken.setblocking(False)
        self.waker.setblocking(False)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, ignore)
        poll = select.poll()
        poll.register(self.woken, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        alive = True
        while alive:
            for fd, mask in poll.poll():
                if fd == self.control.fileno():
                    alive = self.receive(bool(mask & select.POLLHUP))
                else:
                    self.woken.recv(PACKET)
                    self.reap()
        signal.set_wakeup_fd(-1)
        for pid in self.workers:
            kill_group(pid, signal.SIGKILL)

    def receive(self, hung_up: bool) -> bool:
        """Obeys one packet. False when there will be none any more."""
        fds: list[int] = []
        try:
            packet, fds, _, _ = socket.recv_fds(self.control, PACKET, 16, socket.MSG_CMSG_CLOEXEC)
            if not packet and hung_up:
                return False
            self.obey(json.loads(packet), fds)
        except OSError:  # reset: Outrider has gone before it read all that we said
            return False
        except Exception as error:
            print(f"a control message was not understood: {one_line(error)}", file=sys.stderr)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def obey(self, message: dict, fds: list[int]) -> None:
        verb, number = message["verb"], message["id"]
        if verb == "spawn":
            self.spawn(number, fds)
        elif verb == "signal":
            for pid, worker in self.workers.items():
                if worker == number:
                    (os.kill if message["signal"] == signal.SIGUSR1 else kill_group)(pid, message["signal"])
        else:
            raise ValueError(f"no verb {verb!r}")

    def spawn(self, number: int, fds: list[int]) -> None:
        if len(fds) != 5 or number in self.workers.values():
            self.say({"event": "refused", "id": number, "error": f"{len(fds)} descriptors instead of 5, or a number in use"})
            return
        try:
            pid = os.fork()
        except OSError as error:
            self.say({"event": "refused", "id": number, "error": f"fork: {error.strerror}"})
            return
        if pid == 0:
            self.leave_to_worker(fds)
        self.workers[pid] = number
        self.say({"event": "spawned", "id": number, "pid": pid})

    def leave_to_worker(self, fds: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (self.control, self.woken, self.waker):
                end.close()
            code = Worker(*fds).run()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def reap(self) -> None:
        """Tells of each worker that ended, once nothing of its process group is left."""
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return
                kill_group(ended.si_pid, signal.SIGKILL)  # before waitpid frees the number for another process
                os.waitpid(ended.si_pid, 0)
                number = self.workers.pop(ended.si_pid, None)
                if number is not None:
                    how = "code" if ended.si_code == os.CLD_EXITED else "signal"
                    self.say({"event": "exited", "id": number, "pid": ended.si_pid, how: ended.si_status})

    def say(self, event: dict) -> None:
        with contextlib.suppress(OSError):  # Outrider has gone: the next poll tells
            self.control.send(json.dumps(event).encode())


def kill_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # just forked and not yet the leader of its group, or gone
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


# ---------------------------------------------------------------------------------------------------------------------
# 2. The worker
# ---------------------------------------------------------------------------------------------------------------------


class Spec(NamedTuple):
    """What Outrider tells a worker about the one handler it is for."""

    integration: str
    file: str
    directory: str
    class_name: str
    init_kwargs: dict
    call_style: str
    api_base: Optional[str]
    key_header: Optional[str]
    key_prefix: Optional[str]
    sync_threads: int
    max_body: int
    ca_bundle: Optional[str]
    hidden: Optional[str]

    @classmethod
    def read(cls, fd: int) -> Spec:
        with open(os.dup(fd), "rb") as file:
            file.seek(0)
            values = json.load(file)
        return cls(**{name: values.get(name) for name in cls._fields})

    def secrets(self) -> Secrets:
        """What a failed load may not tell: the key of the way out, and init_kwargs that are named like secrets."""
        return Secrets((self.hidden, *named_secrets(self.init_kwargs or {})))


class Worker:
    """One process with one handler: confines itself, loads, says so, answers until it is told to drain."""

    def __init__(self, listener: int, status: int, stdout: int, stderr: int, spec: int) -> None:
        os.setsid()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        confine()
        self.log = os.fdopen(make_private(2, keep=True), "w", buffering=1, errors="backslashreplace")
        faulthandler.enable(self.log)
        faulthandler.register(signal.SIGUSR1, self.log, all_threads=True)
        self.spec = Spec.read(spec)
        os.close(spec)
        self.listener = socket.socket(fileno=make_private(listener))
        self.status = Status(socket.socket(fileno=make_private(status)), self.spec.file)
        with high_numbers():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        threads = concurrent.futures.ThreadPoolExecutor(self.spec.sync_threads, "to_thread")
        self.loop.set_default_executor(threads)  # asyncio's own would have six on two cores
        self.draining = asyncio.Event()
        threading.Thread(target=self.obey, name="outrider", daemon=True).start()

    def run(self) -> int:
        """The process's exit code."""
        try:
            handler = load(self.spec, self.loop, self.status.files)
        except LoadError as error:
            self.status.failed(error)
            return 1
        asyncio.set_event_loop(self.loop)  # a handler that called asyncio.run has unset it
        door = Door(self.spec, handler, self.loop, self.log)
        os.register_at_fork(after_in_child=lambda: self.disown(door))
        return self.run_loop(self.serve(door), os.getpid())

    def run_loop(self, serve: Any, pid: int) -> int:
        """A task of the handler's that calls sys.exit stops the loop, and only the loop: it goes on."""
        served = self.loop.create_task(serve)
        while not served.done():
            try:
                self.loop.run_until_complete(served)
            except (SystemExit, KeyboardInterrupt) as error:
                self.log.write(f"handler {self.spec.class_name}: a task raised {one_line(error)}\n")
            except RuntimeError as error:
                if "loop stopped" not in str(error):
                    raise
            finally:
                if os.getpid() != pid:
                    os._exit(1)  # a handler forked, and its child came back here
        return 0

    async def serve(self, door: Door) -> None:
        server = await self.loop.create_server(door.server, sock=self.listener, backlog=1024)
        self.status.ready(door.handler)
        beat = self.loop.create_task(self.beat(door))
        await self.draining.wait()
        server.close()
        idle: set = set()
        while door.server.connections:
            were_idle, idle = idle, set(door.server.connections) - door.busy
            for connection in were_idle & idle:  # a call that was under way to us has had its time to arrive
                connection.force_close()
            await asyncio.sleep(0.05)
        beat.cancel()

    async def beat(self, door: Door) -> None:
        while True:
            self.status.beat(door.pool)
            await asyncio.sleep(HEARTBEAT)

    def obey(self) -> None:
        """In a thread of its own, so that it ends the process even while a handler blocks the loop."""
        for line in self.status.lines():
            if line.get("drain"):
                self.loop.call_soon_threadsafe(self.drain)
        os._exit(0)

    def drain(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until now it may have been meant for Outrider
        self.draining.set()

    def disown(self, door: Door) -> None:
        """In a process that the handler forked: lets go of all that is ours, leaving the numbers taken."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        ours = [self.listener.fileno(), self.status.socket.fileno()]
        ours += [selector.fileno() for selector in [getattr(self.loop, "_selector", None)] if selector]
        for connection in door.server.connections:
            if connection.transport is not None:
                ours.append(connection.transport.get_extra_info("socket").fileno())
        for fd in ours:
            if fd >= 0:
                os.dup2(null, fd, inheritable=False)
        os.close(null)


def confine() -> None:
    """No core dumps, which would hold secrets, and no way to more rights. Neither is worth failing for."""
    with contextlib.suppress(Exception):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # the standard library's random reseeds itself after a fork
        numpy.random.seed()


@contextlib.contextmanager
def high_numbers() -> Any:
    """Descriptors opened inside get numbers from PRIVATE on, where the limit allows."""
    fillers = []
    try:
        with contextlib.suppress(OSError):
            while not fillers or fillers[-1] < PRIVATE:
                fillers.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        if fillers[-1] < PRIVATE:
            raise OSError("the limit of open files is below")
    except OSError:
        while fillers:
            os.close(fillers.pop())
    try:
        yield
    finally:
        for fd in fillers:
            os.close(fd)


class Status:
    """The line to Outrider: JSON lines, and an empty one as a heartbeat."""

    def __init__(self, end: socket.socket, file: str) -> None:
        self.socket = end
        self.files = [file]  # what was imported from the handlers' directory; the loader adds to it
        self.told = 1
        self.stuck = 0

    def ready(self, handler: Handler) -> None:
        self.told = len(self.files)
        self.say({"ready": {**handler.summary(), "files": self.files, "warnings": handler.warnings, **versions()}})

    def failed(self, error: LoadError) -> None:
        self.say({"failed": {"kind": error.kind, "error": str(error), "traceback": error.traceback, "files": self.files}})

    def beat(self, pool: Pool) -> None:
        try:
            self.socket.send(b"\n", socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        if len(self.files) != self.told:
            self.told = len(self.files)
            self.say({"files": self.files})
        if pool.stuck != self.stuck:
            self.stuck = pool.stuck
            self.say({"stuck": self.stuck, "threads": pool.threads})

    def say(self, message: dict) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def lines(self) -> Iterable[dict]:
        """What Outrider says, until it has gone."""
        rest = b""
        with contextlib.suppress(OSError):
            while True:
                more = self.socket.recv(4096)
                if not more:
                    return
                *lines, rest = (rest + more).split(b"\n")
                for line in lines:
                    with contextlib.suppress(ValueError):
                        yield json.loads(line)


@functools.lru_cache(maxsize=None)
def versions() -> dict:
    libraries = {name: importlib.metadata.version(name) for name in ("litellm", "aiohttp")}
    return {"python": platform.python_version(), **libraries}


# ---------------------------------------------------------------------------------------------------------------------
# 3. Loading the handler
# ---------------------------------------------------------------------------------------------------------------------


CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # what HTTP clients read when they are made


class LoadError(Exception):
    """Why the handler cannot be used, in words for the person who wrote it or installed it."""

    def __init__(self, kind: str, text: str, spec: Spec, cause: Optional[BaseException] = None) -> None:
        secrets = spec.secrets()
        super().__init__(secrets.redact(text))
        self.kind = kind
        self.traceback = whole_traceback(cause, spec.directory, secrets) if cause else ""


class Handler(NamedTuple):
    """A loaded handler: what it can do and how it wants to be called."""

    class_name: str
    methods: dict[str, Method]
    warnings: list[str]

    def summary(self) -> dict:
        style = next(iter(self.methods.values())).style
        return {"class": self.class_name, "methods": list(self.methods), "style": style}


def load(spec: Spec, loop: asyncio.AbstractEventLoop, files: list[str]) -> Handler:
    """Imports the file, makes the object and looks at its methods, in the main thread. Raises LoadError.

    What is imported from the handlers' directory, now or later, is added to `files`.
    """
    if spec.ca_bundle:
        os.environ.update(dict.fromkeys(CA_VARIABLES, spec.ca_bundle))
    try:
        sys.path.insert(0, spec.directory)
        sys.path_hooks.insert(0, functools.partial(fresh_finder, spec, files))
        module = in_or_out_of_loop(loop, lambda: import_file(spec, files))
    except LoadError:
        raise
    except BaseException as error:  # SystemExit too
        raise LoadError("import", import_remedy(error, spec), spec, error) from error
    kind, warnings = find_class(module, spec)
    try:
        handler = in_or_out_of_loop(loop, lambda: kind(**(spec.init_kwargs or {})))
    except BaseException as error:
        raise LoadError("constructor", constructor_remedy(error, kind, spec), spec, error) from error
    methods = {}
    for name in METHODS:
        function = getattr(handler, name, None)
        if function is not None and is_own(function):
            methods[name] = fit(name, function, spec)
    if not methods:
        raise LoadError("class", f"{spec.class_name} has none of {', '.join(METHODS)}: write at least acompletion", spec)
    return Handler(spec.class_name, methods, warnings)


def in_or_out_of_loop(loop: asyncio.AbstractEventLoop, make: Callable[[], Any]) -> Any:
    """Outside of the running loop, where asyncio.run works; inside of it if `make` turns out to need that."""
    try:
        return make()
    except RuntimeError as error:
        if "no running event loop" not in str(error):
            raise

    async def inside() -> Any:
        return make()

    asyncio.set_event_loop(loop)
    return loop.run_until_complete(inside())


def import_file(spec: Spec, files: list[str]) -> Any:
    directory, file = os.path.realpath(spec.directory), os.path.realpath(spec.file)
    if not file.startswith(directory + os.sep):
        raise LoadError("import", f"{os.path.basename(spec.file)} is not in the handlers' directory", spec)
    if not os.path.isfile(file):
        raise LoadError("import", f"there is no file {os.path.basename(spec.file)} in {spec.directory}", spec)
    name = "outrider_handler_" + re.sub(r"\W", "_", os.path.basename(spec.file)[:-3])
    loader = FreshLoader(files, name, spec.file)
    module_spec = importlib.util.spec_from_file_location(name, spec.file, loader=loader)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pydantic look it up while it runs
    loader.exec_module(module)
    return module


class FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles what is there: a .pyc is trusted by size and whole seconds, and an edit may change neither. Notes each file."""

    def __init__(self, files: list[str], name: str, path: str) -> None:
        super().__init__(name, path)
        self.files = files

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        if path not in self.files:
            self.files.append(path)
        return self.source_to_code(self.get_data(path), path)


def fresh_finder(spec: Spec, files: list[str], path: str) -> Any:
    """A path hook for the handlers' directory and what is below."""
    if path != spec.directory and not path.startswith(spec.directory + os.sep):
        raise ImportError
    extensions = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    sources = (functools.partial(FreshLoader, files), importlib.machinery.SOURCE_SUFFIXES)
    return importlib.machinery.FileFinder(path, extensions, sources)


def find_class(module: Any, spec: Spec) -> tuple[type, list[str]]:
    from litellm import CustomLLM
    from litellm.llms.base import BaseLLM

    file, name = os.path.basename(spec.file), spec.class_name
    kind = getattr(module, name, None)
    if not inspect.isclass(kind):
        there = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
        handlers = [n for n in there if issubclass(getattr(module, n), BaseLLM)]
        what = "has no class" if kind is None else "has something, but no class,"
        found = ", ".join(handlers or there) or "none"
        raise LoadError("class", f"{file} {what} named {name}; classes there: {found}", spec)
    if issubclass(kind, CustomLLM):
        return kind, []
    if issubclass(kind, BaseLLM):
        return kind, [f"{name} derives from BaseLLM; derive it from litellm.CustomLLM"]
    raise LoadError("class", f"{name} in {file} does not derive from litellm.CustomLLM", spec)


def is_own(function: Callable) -> bool:
    """Whether the handler wrote this method, rather than inherited litellm's, which only say `not implemented`."""
    return getattr(function, "__module__", "") not in ("litellm.llms.custom_llm", "litellm.llms.base")


def import_remedy(error: BaseException, spec: Spec) -> str:
    file = os.path.basename(spec.file)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return (
            f"{file} imports {error.name}, which is not installed for {sys.executable} (prefix {sys.prefix}); "
            f"install it: {sys.executable} -m pip install {package}"
        )
    places = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(spec.directory + os.sep)]
    where = f", {os.path.basename(places[-1].filename)} line {places[-1].lineno}" if places else ""
    return f"importing {file} failed: {one_line(error, spec.secrets())}{where}"


def constructor_remedy(error: BaseException, kind: type, spec: Spec) -> str:
    given, words = ", ".join(spec.init_kwargs or {}) or "none", one_line(error, spec.secrets())
    if not isinstance(error, TypeError):
        return f"making {spec.class_name} failed: {words} (init_kwargs given: {given})"
    try:
        signature = str(inspect.signature(kind))
    except (TypeError, ValueError):
        signature = "(?)"
    return f"{words}; the constructor is {spec.class_name}{signature}, init_kwargs given: {given}"


# ---------------------------------------------------------------------------------------------------------------------
# 4. Calling a method
# ---------------------------------------------------------------------------------------------------------------------

METHODS = ("acompletion", "completion", "astreaming", "streaming")
WHOLE = ("acompletion", "completion", "astreaming", "streaming")  # the order tried for a whole answer
STREAM = ("astreaming", "streaming", "acompletion", "completion")  # and for a stream

# Fields of a request that a signature may name without a default; they are None where the request has none.
OPENAI = frozenset(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata"
    " modalities n parallel_tool_calls prediction presence_penalty reasoning_effort response_format safety_identifier"
    " seed service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user"
    " verbosity web_search_options extra_body thinking".split()
)


class Ask:
    """One request as a method is to see it. Made anew for each method tried: handlers change what they are given."""

    __slots__ = ("spec", "raw", "body", "headers", "api_key", "timeout", "request_id", "streams")

    def __init__(
        self, spec: Spec, raw: bytes, headers: dict, api_key: Optional[str], timeout: float, request_id: str
    ) -> None:
        self.spec, self.raw, self.headers, self.api_key = spec, raw, headers, api_key
        self.timeout, self.request_id = timeout, request_id
        self.body = parse(raw)
        self.streams = False

    def again(self) -> Ask:
        return Ask(self.spec, self.raw, self.headers, self.api_key, self.timeout, self.request_id)

    @property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    def fields(self) -> dict:
        """The request's own fields, without those that the sidecar sets."""
        body = self.body
        fields = {k: v for k, v in body.items() if v is not None and k not in OURS}
        if self.streams:
            fields["stream"] = True
        else:
            fields.pop("stream", None)
            fields.pop("stream_options", None)
        return fields

    def optional_params(self) -> dict:
        """The fields as litellm hands them on: max_completion_tokens is renamed."""
        fields = self.fields()
        if "max_completion_tokens" in fields:
            fields["max_tokens"] = fields.pop("max_completion_tokens")
        return fields

    def litellm_params(self) -> dict:
        metadata = self.body.get("metadata")
        return {
            "api_base": self.spec.api_base,
            "api_key": self.api_key,
            "custom_llm_provider": self.spec.integration,
            "litellm_call_id": self.request_id,
            "metadata": dict(metadata) if isinstance(metadata, dict) else {},
            "timeout": self.timeout,
            "proxy_server_request": {},
        }

    def model_response(self) -> Any:
        return sys.modules["litellm"].ModelResponse()


def parse(raw: bytes) -> dict:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_json", "raised", "the request's body is not a JSON object")
    return body


class Logging:
    """Stands for litellm's logging object: has every method, and each does nothing."""

    def __init__(self, request_id: str) -> None:
        self.model_call_details: dict = {}
        self.litellm_call_id = request_id

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return nothing_async if name.startswith("async_") else nothing


def nothing(*args: Any, **kwargs: Any) -> None:
    pass


async def nothing_async(*args: Any, **kwargs: Any) -> None:
    pass


# What the sidecar sets, whatever the request says: first what a plain function gets, then what only litellm's get.
FLAT: dict[str, Callable[[Ask], Any]] = {
    "model": lambda ask: ask.body.get("model"),
    "messages": lambda ask: ask.body.get("messages"),
    "api_base": lambda ask: ask.spec.api_base,
    "api_key": lambda ask: ask.api_key,
    "headers": lambda ask: dict(ask.headers),
    "extra_headers": lambda ask: dict(ask.headers),
    "timeout": lambda ask: ask.timeout,
    "custom_llm_provider": lambda ask: ask.spec.integration,
}
LITELLM: dict[str, Callable[[Ask], Any]] = {
    "optional_params": Ask.optional_params,
    "litellm_params": Ask.litellm_params,
    "model_response": Ask.model_response,
    "logging_obj": lambda ask: Logging(ask.request_id),
    "print_verbose": lambda ask: nothing,
    "encoding": lambda ask: None,
    "custom_prompt_dict": lambda ask: {},
    "acompletion": lambda ask: True,
    "logger_fn": lambda ask: None,
    "client": lambda ask: None,
}
OURS = {**FLAT, **LITELLM}


class Method(NamedTuple):
    """A method of the handler and what its signature takes."""

    name: str
    function: Callable
    style: str  # "direct": flat parameters, as Galileo documents it; "litellm": what litellm passes to a CustomLLM
    positional: dict[str, Any]  # names that can be given by position only, and what each is without a value
    ours: list[str]  # names that the sidecar sets
    fields: Optional[list[str]]  # names of a request's fields; None: all of them (**kwargs)
    required: frozenset

    @property
    def streams(self) -> bool:
        return self.name.endswith("streaming")

    def arguments(self, ask: Ask) -> tuple[list, dict]:
        fields = ask.fields()
        if "max_completion_tokens" in fields:
            fields.setdefault("max_tokens", fields["max_completion_tokens"])
        given = fields if self.fields is None else {n: fields[n] for n in self.fields if n in fields}
        for name in self.ours:
            value = OURS[name](ask)
            if self.style == "litellm" or value or name in self.required:
                given[name] = value
        for name in self.required:
            given.setdefault(name, None)
        return [given.pop(name, default) for name, default in self.positional.items()], given


def fit(name: str, function: Callable, spec: Spec) -> Method:
    """Reads the signature once, so that a call only fills it in."""
    parameters = inspect.signature(function).parameters.values()
    all_fields = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    names = {p.name for p in named}
    required = frozenset(p.name for p in named if p.default is p.empty)
    unknown = sorted(required - OURS.keys() - OPENAI)
    if unknown:
        what = f"{spec.class_name}.{name} requires {', '.join(unknown)}, which no call brings"
        raise LoadError("signature", f"{what}; give it a default, or take it from init_kwargs", spec)
    style = spec.call_style
    if style not in ("direct", "litellm"):
        style = "direct" if "custom_llm_provider" in required and not names & LITELLM.keys() else "litellm"
    taken = names
    if all_fields:
        taken = names | FLAT.keys() if style == "direct" else names | OURS.keys() - {"extra_headers"}
    return Method(
        name=name,
        function=function,
        style=style,
        positional={p.name: p.default for p in named if p.kind is p.POSITIONAL_ONLY},
        ours=[n for n in OURS if n in taken],
        fields=None if all_fields else sorted(names - OURS.keys()),
        required=required,
    )


class Pool:
    """The threads in which synchronous methods run. A thread cannot be stopped, so those given up are counted."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.stuck = 0
        self.executor = concurrent.futures.ThreadPoolExecutor(threads, "handler")

    async def call(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        future = self.executor.submit(contained, function, args, kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and not future.done():
                self.stuck += 1
                loop = asyncio.get_running_loop()
                future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.free))
            raise

    def free(self) -> None:
        self.stuck -= 1


class Exited(Exception):
    """The handler raised what would end the process, or would be lost on its way through a future."""


def contained(function: Callable, args: tuple, kwargs: dict) -> Any:
    try:
        return function(*args, **kwargs)
    except (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError) as error:
        raise Exited(one_line(error)) from error


class Caller:
    """Calls the handler's methods in order until one is implemented."""

    def __init__(self, handler: Handler, pool: Pool) -> None:
        self.pool = pool
        self.whole = [handler.methods[name] for name in WHOLE if name in handler.methods]
        self.stream = [handler.methods[name] for name in STREAM if name in handler.methods]

    async def call(self, ask: Ask) -> tuple[Any, Optional[AsyncIterator]]:
        """A whole answer and None, or the first chunk of a stream and the iterator of the others."""
        methods = self.stream if ask.wants_stream else self.whole
        for method in methods[:-1]:
            try:
                return await self.attempt(method, ask)
            except Exception as error:
                if not is_not_implemented(error):
                    raise
            ask = ask.again()
        return await self.attempt(methods[-1], ask)

    async def attempt(self, method: Method, ask: Ask) -> tuple[Any, Optional[AsyncIterator]]:
        ask.streams = method.streams
        args, kwargs = method.arguments(ask)
        synchronous = not method.name.startswith("a")
        if synchronous:
            result = await self.pool.call(method.function, *args, **kwargs)
        else:
            result = method.function(*args, **kwargs)
        while inspect.isawaitable(result):
            result = await result
        if isinstance(result, dict) or hasattr(result, "model_dump"):
            return result, None
        chunks = self.chunks(result, synchronous)
        async for first in chunks:
            return first, chunks
        return None, chunks

    async def chunks(self, result: Any, synchronous: bool) -> AsyncIterator:
        """Iterates over what the handler returned, in the pool if it must."""
        if hasattr(result, "__aiter__") and not (synchronous and hasattr(result, "__next__")):
            iterator = result.__aiter__()
            try:
                async for chunk in iterator:
                    yield chunk
            finally:
                if hasattr(iterator, "aclose"):
                    await iterator.aclose()
        elif hasattr(result, "__iter__") and not isinstance(result, (str, bytes)):
            iterator = await self.pool.call(iter, result)
            try:
                while (chunk := await self.pool.call(next, iterator, END)) is not END:
                    yield chunk
            except GeneratorExit:  # the client has gone between two chunks
                if hasattr(iterator, "close"):
                    await self.pool.call(iterator.close)
                raise
        else:
            raise bad_return(f"the handler returned {named(result)}, which is no answer")


def is_not_implemented(error: Exception) -> bool:
    if isinstance(error, NotImplementedError):
        return True
    return peek(error, "status_code") in (500, 501) and "not implemented" in text_of(error).lower()


# ---------------------------------------------------------------------------------------------------------------------
# 5. Answers
# ---------------------------------------------------------------------------------------------------------------------

# Providers' own reasons that handlers pass on in plain chunks; litellm's objects have translated them already.
REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos_token": "stop",
    "STOP": "stop",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "tool_use": "tool_calls",
}


def plain(value: Any) -> Any:
    """What a pydantic object says, as a dict; also the `default` of the JSON encoder."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True, warnings=False)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


encode = json.JSONEncoder(default=plain, allow_nan=False, separators=(",", ":")).encode


# What comes of a value whose parts are of other types than they should be.
MALFORMED = (TypeError, ValueError, AttributeError, LookupError, RecursionError)


def not_understood(what: str, value: Any, error: BaseException) -> Refusal:
    return bad_return(f"the handler's {what} ({named(value)}) cannot be understood: {one_line(error)}")


def named(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def whole_body(answer: Any, ask: Ask) -> bytes:
    """The JSON of a chat completion that lacks nothing."""
    if hasattr(answer, "model_dump_json") and is_complete(answer, ask.body.get("model")):
        with contextlib.suppress(Exception):  # a lone surrogate, say: the other way can write it
            return answer.model_dump_json(exclude_none=True, warnings=False).encode()
    try:
        return encode(completed(answer, ask)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise bad_return(f"the handler's answer is not JSON: {one_line(error)}") from error


def is_complete(answer: Any, model: Any) -> bool:
    """Whether no more than the model need be filled in, so that pydantic may write the JSON by itself: three times faster."""
    try:
        usage = getattr(answer, "usage", None)
        answer.model = answer.model or model
        return bool(
            answer.id
            and answer.created
            and answer.model
            and answer.object == "chat.completion"
            and answer.choices
            and (usage is None or usage.total_tokens)
            and all(c.finish_reason and c.message.role and c.message.content is not None for c in answer.choices)
        )
    except (AttributeError, TypeError, ValueError):
        return False  # dicts among the objects, or an object that may not be changed


def completed(answer: Any, ask: Ask) -> dict:
    """The answer as a dict, with what the handler left out filled in."""
    try:
        return filled_in(answer, ask)
    except MALFORMED as error:
        raise not_understood("answer", answer, error) from error


def filled_in(answer: Any, ask: Ask) -> dict:
    kind = named(answer)
    answer = dict(answer) if isinstance(answer, dict) else plain(answer)
    choices = answer.get("choices")
    if not isinstance(choices, (list, tuple)) or not choices:
        raise bad_return(f"the handler's answer ({kind}) has no choices")
    answer["id"] = answer.get("id") or new_id()
    answer["object"] = "chat.completion"
    answer["created"] = answer.get("created") or int(time.time())
    answer["model"] = answer.get("model") or ask.body.get("model")
    answer["choices"] = [completed_choice(index, choice, kind) for index, choice in enumerate(choices)]
    usage = usage_of(answer.pop("usage", None))
    if usage:
        answer["usage"] = usage
    return answer


def completed_choice(index: int, choice: Any, kind: str) -> dict:
    choice = dict(choice) if isinstance(choice, dict) else plain(choice)
    message = choice.get("message") if isinstance(choice, dict) else None
    message = dict(message) if isinstance(message, dict) else plain(message)
    if not isinstance(message, dict):
        raise bad_return(f"the handler's answer ({kind}) has a choice without a message")
    message = {"role": "assistant", "content": None, **message}
    message["role"] = message["role"] or "assistant"
    if not isinstance(message.get("tool_calls") or [], (list, tuple)):
        raise bad_return(f"the handler's answer ({kind}) has tool_calls that are {named(message['tool_calls'])}")
    reason = choice.get("finish_reason") or ("tool_calls" if message.get("tool_calls") else "stop")
    index = choice["index"] if choice.get("index") is not None else index
    return {**choice, "index": index, "message": message, "finish_reason": REASONS.get(reason, reason)}


def usage_of(value: Any) -> Optional[dict]:
    """Usage as a dict; None for none, and for the zeros that some litellm objects are made with."""
    usage = value if value is None or isinstance(value, dict) else plain(value)
    if isinstance(usage, dict) and any(usage.get(n) for n in ("prompt_tokens", "completion_tokens", "total_tokens")):
        return usage
    return None


def new_id() -> str:
    return "chatcmpl-" + uuid.uuid4().hex


class Piece(NamedTuple):
    """What one chunk, of any kind, adds to the answer."""

    choices: list[dict]  # with index, delta and perhaps logprobs
    reasons: dict[int, str]  # by choice: why it ended
    usage: Optional[dict]


def read_chunk(chunk: Any) -> Piece:
    """Understands text, litellm's GenericStreamingChunk, and OpenAI's chunks as dicts or objects."""
    if chunk is None:
        return Piece([], {}, None)
    body = {"text": chunk} if isinstance(chunk, str) else chunk if isinstance(chunk, dict) else plain(chunk)
    if not isinstance(body, dict):
        raise bad_return(f"the handler's stream yielded {named(chunk)}, which is no chunk")
    if "choices" in body:
        return read_openai_chunk(body)
    if not body.keys() & {"text", "tool_use", "finish_reason", "is_finished", "usage"}:
        raise bad_return(f"the handler's stream yielded a {named(chunk)} with neither text nor choices")
    delta = {}
    if body.get("text"):
        delta["content"] = body["text"]
    if body.get("tool_use"):
        delta["tool_calls"] = body["tool_use"] if isinstance(body["tool_use"], list) else [body["tool_use"]]
    if body.get("provider_specific_fields"):
        delta["provider_specific_fields"] = body["provider_specific_fields"]
    reason = body.get("finish_reason")
    ended = body.get("is_finished", bool(reason))
    return Piece([{"index": 0, "delta": delta}], {0: reason or "stop"} if ended else {}, usage_of(body.get("usage")))


def read_openai_chunk(body: dict) -> Piece:
    choices, reasons = [], {}
    for choice in body["choices"] or ():
        choice = as_dict(choice, "a choice")
        index, delta = choice.get("index") or 0, as_dict(choice.get("delta") or choice.get("message") or {}, "a delta")
        read = {"index": index, "delta": {k: v for k, v in delta.items() if v not in (None, "", [])}}
        if choice.get("logprobs"):
            read["logprobs"] = choice["logprobs"]
        choices.append(read)
        if choice.get("finish_reason"):
            reasons[index] = choice["finish_reason"]
    return Piece(choices, reasons, usage_of(body.get("usage")))


def as_dict(value: Any, what: str) -> dict:
    value_dict = dict(value) if isinstance(value, dict) else plain(value)
    if not isinstance(value_dict, dict):
        raise bad_return(f"the handler answered with {what} that is {named(value)}")
    return value_dict


def number(tool: dict, known: list) -> dict:
    """A tool call with its index: one without belongs to the last, or is the next if it brings a new id."""
    tool = {name: value for name, value in tool.items() if value is not None}
    if isinstance(tool.get("function"), dict):
        tool["function"] = {name: value for name, value in tool["function"].items() if value is not None}
    if tool.get("id") and tool["id"] not in known:
        known.append(tool["id"])
    if tool.get("index") is None:
        tool["index"] = known.index(tool["id"]) if tool.get("id") else max(len(known) - 1, 0)
    return {**tool, "type": tool.get("type") or "function"} if tool.get("id") else tool


class Stream:
    """Writes one answer as OpenAI's events: one id, the role first, the reason by itself, usage last and if asked for."""

    def __init__(self, ask: Ask) -> None:
        head = {"id": new_id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": ask.body.get("model")}
        self.head = "data: " + encode(head)[:-1] + ',"choices":'
        self.wants_usage = ask.wants_usage
        self.usage: Optional[dict] = None
        self.reasons: dict[int, str] = {}
        self.begun: set[int] = set()  # choices whose role was told
        self.tools: dict[int, list] = collections.defaultdict(list)  # by choice: the ids of its tool calls

    def events(self, chunk: Any) -> bytes:
        """The events that a chunk makes; the first makes one even if there is nothing to tell but the role."""
        try:
            return self.read(chunk)
        except MALFORMED as error:
            raise not_understood("chunk", chunk, error) from error

    def read(self, chunk: Any) -> bytes:
        piece = read_chunk(chunk)
        self.usage = piece.usage or self.usage
        self.reasons.update(piece.reasons)
        events = [self.delta(choice) for choice in piece.choices if choice["delta"].keys() - {"role"}]
        if not self.begun:
            events.append(self.delta({"index": 0, "delta": {"content": ""}}))
        return b"".join(events)

    def end(self) -> bytes:
        try:
            return self.last_events()
        except MALFORMED as error:
            raise bad_return(f"the end of the handler's stream cannot be understood: {one_line(error)}") from error

    def last_events(self) -> bytes:
        events = []
        for index in sorted(self.begun | self.reasons.keys()):
            reason = self.reasons.get(index, "stop")
            reason = "tool_calls" if reason == "stop" and index in self.tools else REASONS.get(reason, reason)
            events.append(self.event([{"index": index, "delta": {}, "finish_reason": reason}]))
        if self.wants_usage and self.usage:
            events.append(self.event([], ',"usage":' + encode(self.usage)))
        return b"".join(events) + b"data: [DONE]\n\n"

    def delta(self, choice: dict) -> bytes:
        index, delta = choice["index"], choice["delta"]
        delta.pop("role", None)
        if "tool_calls" in delta:
            known = self.tools[index]
            delta["tool_calls"] = [number(as_dict(tool, "a tool call"), known) for tool in delta["tool_calls"]]
        if index not in self.begun:
            self.begun.add(index)
            choice["delta"] = {"role": "assistant", **delta}
        choice["finish_reason"] = None
        return self.event([choice])

    def event(self, choices: list, more: str = "") -> bytes:
        try:
            return f"{self.head}{encode(choices)}{more}}}\n\n".encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise bad_return(f"the handler's chunk is not JSON: {one_line(error)}") from error


def as_chunk(answer: dict) -> dict:
    """A whole answer as one chunk, for a client that asked for a stream."""
    choices = []
    for choice in answer["choices"]:
        message = dict(choice["message"])
        if message.get("tool_calls"):
            message["tool_calls"] = [{"index": i, **as_dict(t, "a tool call")} for i, t in enumerate(message["tool_calls"])]
        choices.append({**choice, "delta": message})
    return {"choices": choices, "usage": answer.get("usage")}


class Gathered:
    """A stream as one whole answer, for a client that did not ask for a stream."""

    def __init__(self) -> None:
        self.messages: dict[int, dict] = {}
        self.tools: dict[int, list] = collections.defaultdict(list)
        self.reasons: dict[int, str] = {}
        self.usage: Optional[dict] = None

    def add(self, chunk: Any) -> None:
        try:
            self.add_piece(read_chunk(chunk))
        except MALFORMED as error:
            raise not_understood("chunk", chunk, error) from error

    def add_piece(self, piece: Piece) -> None:
        self.reasons.update(piece.reasons)
        self.usage = piece.usage or self.usage
        for choice in piece.choices:
            index = choice["index"]
            message = self.messages.setdefault(index, {"role": "assistant", "content": None})
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    self.add_tools(message.setdefault("tool_calls", []), value, self.tools[index])
                elif isinstance(value, str) and name != "role":
                    message[name] = (message.get(name) or "") + value
                else:
                    message[name] = value

    def add_tools(self, calls: list, deltas: list, known: list) -> None:
        for delta in deltas:
            delta = number(as_dict(delta, "a tool call"), known)
            index, function = delta.pop("index"), as_dict(delta.pop("function", None) or {}, "a function")
            while len(calls) <= min(index, 127):
                calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
            call = calls[min(index, 127)]
            call.update(delta)
            call["function"]["name"] = function.get("name") or call["function"]["name"]
            call["function"]["arguments"] += function.get("arguments") or ""

    def answer(self) -> dict:
        choices = []
        self.messages = self.messages or {0: {}}
        for index, message in sorted(self.messages.items()):
            reason = self.reasons.get(index)
            reason = None if reason == "stop" else reason  # `completed` tells stop from tool_calls
            choices.append({"index": index, "message": message, "finish_reason": reason})
        return {"choices": choices, "usage": self.usage}


# ---------------------------------------------------------------------------------------------------------------------
# 6. Errors
# ---------------------------------------------------------------------------------------------------------------------

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
# Exceptions without a status, by library and class, so that no library need be imported to know them.
TIMEOUTS = {
    "builtins.TimeoutError",
    "asyncio.TimeoutError",
    "concurrent.TimeoutError",
    "socket.timeout",
    "httpx.TimeoutException",
    "requests.Timeout",
    "openai.APITimeoutError",
}
UNREACHABLE = {
    "builtins.ConnectionError",
    "socket.gaierror",
    "ssl.SSLError",
    "httpx.TransportError",
    "requests.ConnectionError",
    "openai.APIConnectionError",
    "aiohttp.ClientConnectionError",
}
OPEN_LIBRARIES = {"litellm", "openai", "httpx"}  # whose texts a client may read
SECRET_NAME = re.compile("key|token|secret|passw|credential|auth", re.IGNORECASE)
PYTHON_PATH = re.compile(r"(?<![\w:/])(?:/[^\s/:\"']+)+/([^\s/:\"']+\.py)\b")


class Refusal(Exception):
    """An error of ours: an answer that is none, a time that is over, a request that is not understood."""

    def __init__(self, status: int, code: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.status_code, self.code, self.kind = status, code, kind


def bad_return(message: str) -> Refusal:
    return Refusal(502, "handler_garbled", "bad-return", message)


class Failure(NamedTuple):
    """An exception as an answer."""

    status: int
    kind: str
    code: str
    param: Optional[str]
    message: str
    retry_after: Optional[str]

    def body(self) -> bytes:
        kind = TYPES.get(self.status, "api_error")
        return encode({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}).encode()


def failure(error: BaseException, secrets: Secrets) -> Failure:
    """What the client may know of an exception: its status, and its text if it was meant to be read by others."""
    kind = error.kind if isinstance(error, Refusal) else "raised"
    error = error.__cause__ or error if isinstance(error, Exited) else error
    families = {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(error).__mro__}
    status, code = status_of(error), "handler_error"
    public = status is not None or any(name.partition(".")[0] in OPEN_LIBRARIES for name in families)
    if status is None and families & TIMEOUTS:
        status, code = 504, "handler_timeout"
    elif status is None:
        status = 502 if families & UNREACHABLE else 500
    own_code, param = peek(error, "code"), peek(error, "param")
    if isinstance(own_code, str) and own_code and not own_code.isdigit():
        code = secrets.redact(own_code)[:64]
    message = clean(secrets.redact(text_of(error))) if public else ""
    return Failure(
        status=status,
        kind=kind,
        code=code,
        param=secrets.redact(param)[:64] if isinstance(param, str) else None,
        message=message[:MESSAGE] or f"the handler raised {type(error).__name__}; see Outrider's log",
        retry_after=retry_after_of(error),
    )


def status_of(error: BaseException) -> Optional[int]:
    """The status that an exception carries: its own, its response's, or what aiohttp calls it."""
    for value in (peek(error, "status_code"), peek(peek(error, "response"), "status_code"), peek(error, "status")):
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return int(value)
    return None


def retry_after_of(error: BaseException) -> Optional[str]:
    for headers in (peek(peek(error, "response"), "headers"), peek(error, "headers")):
        with contextlib.suppress(Exception):
            for name, value in headers.items():
                if name.lower() == "retry-after" and value.isascii() and value.isprintable():
                    return value[:64]
    return None


def peek(value: Any, name: str) -> Any:
    """An attribute that a handler's object may lack, or fail to compute."""
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def text_of(error: BaseException) -> str:
    message = peek(error, "message")
    try:
        return message if isinstance(message, str) and message else str(error)
    except Exception:
        return ""


def clean(text: str) -> str:
    """Without litellm's class names, without a traceback, and with files named but not their places."""
    text = re.sub(r"^(?:litellm\.\w+: )+", "", text).partition("Traceback (most recent call last)")[0]
    return PYTHON_PATH.sub(r"\1", text[: 4 * MESSAGE]).strip()


def one_line(error: BaseException, secrets: Optional[Secrets] = None) -> str:
    """Redacted before it is cut: half of a secret would not be known for one."""
    try:
        text = str(error) if secrets is None else secrets.redact(str(error))
        text = " ".join(text.split())[:500]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def whole_traceback(error: BaseException, directory: str, secrets: Secrets) -> str:
    """The traceback without secrets, from the first place in the handler's own files on."""
    steps = error.__traceback__
    while steps and not steps.tb_frame.f_code.co_filename.startswith(directory + os.sep):
        steps = steps.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, steps or error.__traceback__))
        return secrets.redact(text)[-TRACEBACK:]
    except Exception:  # an exception whose own text cannot be had
        return f"{type(error).__name__}\n"


def named_secrets(values: dict) -> Iterable[str]:
    """The texts that stand under a name which sounds like a secret, however deep."""
    for name, value in values.items():
        if SECRET_NAME.search(name):
            yield from texts_in(value)
        elif isinstance(value, dict):
            yield from named_secrets(value)


def texts_in(value: Any) -> Iterable[str]:
    if isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts_in(one)
    elif isinstance(value, str):
        yield value


class Secrets:
    """Values that no message and no log may hold."""

    def __init__(self, values: Iterable[Any]) -> None:
        texts = {v for v in values if isinstance(v, str)}
        texts |= {v.partition(" ")[2] for v in texts}  # a bearer by itself
        texts |= {repr(v)[1:-1] for v in texts}  # as a dict shows it: the lines of a private key, say
        self.values = sorted((v for v in texts if len(v) >= 4), key=len, reverse=True)

    def redact(self, text: str) -> str:
        for value in self.values:
            text = text.replace(value, "[redacted]")
        return text


# ---------------------------------------------------------------------------------------------------------------------
# 7. HTTP
# ---------------------------------------------------------------------------------------------------------------------

# Headers of the connection between Outrider and this process; all others are the integration's own.
TRANSPORT = frozenset(
    "host accept accept-encoding user-agent connection keep-alive transfer-encoding te trailer upgrade expect"
    " content-type content-length content-encoding".split()
)
DEFAULT_TIMEOUT = 600.0  # seconds that a handler is told where Outrider names no deadline


class Door:
    """Answers Outrider's requests on the worker's socket."""

    def __init__(self, spec: Spec, handler: Handler, loop: asyncio.AbstractEventLoop, log: Any) -> None:
        from aiohttp import web

        try:
            from asyncio import timeout
        except ImportError:  # before Python 3.11; aiohttp brings it
            from async_timeout import timeout
        self.web, self.timeout = web, timeout
        self.spec, self.handler, self.loop, self.log = spec, handler, loop, log
        self.busy: set = set()  # connections with a call
        self.secrets: tuple = (spec.hidden, *named_secrets(spec.init_kwargs or {}))
        self.pool = Pool(spec.sync_threads)
        self.caller = Caller(handler, self.pool)
        self.key_header = (spec.key_header or "").lower()
        self.server = web.Server(
            self.answer,
            loop=loop,
            request_factory=self.request,
            handler_cancellation=True,  # a connection that closes cancels the call
            access_log=None,
            keepalive_timeout=86400.0,  # Outrider decides which connections it keeps
            max_line_size=65536,
            max_field_size=262144,
        )

    def request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        return self.web.BaseRequest(message, payload, protocol, writer, task, self.loop, client_max_size=self.spec.max_body)

    async def answer(self, request: Any) -> Any:
        peer = request.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", peer)[1] not in (os.getuid(), 0):
            return self.web.Response(status=403)
        path = request.path
        if path == "/v1/chat/completions" and request.method == "POST":
            self.busy.add(request.protocol)
            try:
                return await self.chat(request)
            finally:
                self.busy.discard(request.protocol)
        if path == "/healthz":
            return self.web.Response(text="ok")
        if path == "/v1/handlers":
            return self.web.json_response([self.handler.summary()])
        return self.web.Response(status=404)

    async def chat(self, request: Any) -> Any:
        """One call. Whatever the handler raises becomes an answer, for it must not reach the event loop."""
        stream: list = []  # the response, once its first byte is promised
        secrets = self.secrets
        try:
            headers, api_key, timeout, request_id = self.read_headers(request)
            configured = (value for value in headers.values() if len(value) >= 8)  # shorter ones are words
            secrets += (api_key, headers.get(self.key_header), *named_secrets(headers), *configured)
            ask = Ask(self.spec, await request.read(), headers, api_key, timeout or DEFAULT_TIMEOUT, request_id)
            if ask.wants_stream:
                return await self.stream(request, ask, timeout, stream)
            return self.web.Response(body=await self.within(timeout, self.whole(ask)), content_type="application/json")
        except BaseException as error:
            if request.transport is None:
                raise  # the client has gone, and with it who would read this
            failed = failure(error, Secrets(secrets))
            self.report(error, failed, request, Secrets(secrets))
        if stream:
            await stream[0].write(b"data: " + failed.body() + b"\n\n")
            return stream[0]
        more = {"x-handler-error": failed.kind}
        if failed.retry_after:
            more["retry-after"] = failed.retry_after
        return self.web.Response(status=failed.status, body=failed.body(), headers=more, content_type="application/json")

    def read_headers(self, request: Any) -> tuple[dict, Optional[str], Optional[float], str]:
        """The integration's headers, the key among them, the seconds until the answer or its first chunk, the request's id."""
        headers, api_key, timeout, request_id = {}, None, None, ""
        for name, value in request.headers.items():
            lower = name.lower()
            if lower == self.key_header:
                prefix = self.spec.key_prefix or ""
                api_key = value[len(prefix) :] if value.lower().startswith(prefix.lower()) else value
            if lower == "x-outrider-deadline-ms":
                timeout = int(value) / 1000 if value.isdigit() else None
            elif lower == "x-request-id":
                request_id = value
            elif lower == "authorization":
                headers["Authorization"] = value
            elif lower not in TRANSPORT:
                headers[name] = value
        return headers, api_key, timeout, request_id

    async def whole(self, ask: Ask) -> bytes:
        answer, chunks = await self.caller.call(ask)
        if chunks is not None:
            gathered = Gathered()
            gathered.add(answer)
            async for chunk in chunks:
                gathered.add(chunk)
            answer = gathered.answer()
        return whole_body(answer, ask)

    async def stream(self, request: Any, ask: Ask, timeout: Optional[float], begun: list) -> Any:
        answer, chunks = await self.within(timeout, self.caller.call(ask))
        writer = Stream(ask)
        try:
            events = writer.events(as_chunk(completed(answer, ask)) if chunks is None else answer)
            response = self.web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
            await response.prepare(request)
            begun.append(response)
            await response.write(events)
            if chunks is not None:
                async for chunk in chunks:
                    events = writer.events(chunk)
                    if events:
                        await response.write(events)
            await response.write(writer.end())
        finally:
            if chunks is not None:
                await chunks.aclose()
        return response

    async def within(self, timeout: Optional[float], call: Any) -> Any:
        """Awaits the call, and cancels it when its time is over."""
        due = self.loop.time() + timeout if timeout is not None else None
        try:
            async with self.timeout(timeout):
                return await call
        except asyncio.TimeoutError:
            if due is None or self.loop.time() < due:
                raise  # the handler's own
            raise Refusal(504, "handler_timeout", "timeout", f"the handler did not answer within {timeout:g} s") from None

    def report(self, error: BaseException, failed: Failure, request: Any, secrets: Secrets) -> None:
        """To our log: one line for what the handler says on purpose, the whole traceback for what is a fault."""
        who = f"handler {self.spec.integration} {self.spec.class_name}, request {request.headers.get('x-request-id', '-')}"
        error = error.__cause__ or error if isinstance(error, Exited) else error
        text = f"{who}: {failed.status} {one_line(error, secrets)}\n"
        if failed.status >= 500 and not isinstance(error, Refusal):
            text += whole_traceback(error, self.spec.directory, secrets)
        self.log.write(text)


if __name__ == "__main__":
    sys.exit(main())
