"""Does what the last message says: `WORD [NUMBER]`, each a way to break a worker. All other messages are echoed with the process id."""

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
import time

from litellm import CustomLLM

BEGUN = []  # calls that the tests wait for before they leave
DONE = []  # what happened after the call had gone: cancellations, closed generators


async def hang(number):
    BEGUN.append("hang")
    try:
        await asyncio.sleep(number)
    except asyncio.CancelledError:
        DONE.append("cancelled")
        raise


async def deaf(number):
    """Swallows one cancellation."""
    try:
        await asyncio.sleep(number)
    except asyncio.CancelledError:
        DONE.append("ignored")


def spin(number):
    end = time.monotonic() + number
    while time.monotonic() < end:
        pass


def hog(number):
    """Megabytes of its own, touched and kept."""
    DONE.append(b"x" * (int(number) << 20))


def garbage(number):
    """Noise on every descriptor above the standard ones, a socket's or a file's."""
    for fd in range(3, 1024):
        try:
            os.write(fd, b'{"ready": {"class": 1}}\n\xff\xfe{{{\n' * int(number or 1))
        except OSError:
            pass


def fork(number):
    """A child that goes its own way for a while."""
    if os.fork() == 0:
        time.sleep(number or 1)
        os._exit(0)


def fork_and_return(number):
    """A child that comes back into the worker's own code."""
    os.fork()


def child(number):
    """A program that outlives the call, and would outlive the worker; its id is told."""
    return subprocess.Popen(["sleep", str(number or 600)]).pid


def orphan(number):
    """A grandchild in a session of its own."""
    subprocess.run(["sh", "-c", f"setsid sleep {number or 600} & "], check=True)


def flood(number):
    for line in range(int(number or 1)):
        print(f"line {line}", file=sys.stderr if line % 2 else sys.stdout)
    print("an unfinished line", end="")


WORDS = {
    "hang": hang,
    "deaf": deaf,
    "block": time.sleep,
    "spin": spin,
    "exit": lambda number: os._exit(int(number)),
    "abort": lambda number: os.abort(),
    "segfault": lambda number: ctypes.string_at(0),
    "kill": lambda number: os.kill(os.getpid(), int(number)),
    "hog": hog,
    "print": flood,
    "long-line": lambda number: print("y" * int(number)),
    "close-fds": lambda number: os.closerange(3, 256),
    "close-output": lambda number: os.closerange(0, 3),
    "garbage": garbage,
    "fork": fork,
    "fork-and-return": fork_and_return,
    "child": child,
    "orphan": orphan,
    "thread": lambda number: threading.Thread(target=time.sleep, args=(number,)).start(),
    "recurse": lambda number: WORDS["recurse"](number),
    "leave-directory": lambda number: os.chdir("/"),
    "environment": lambda number: sorted(os.environ),
    "begun": lambda number: BEGUN,
    "done": lambda number: [entry for entry in DONE if isinstance(entry, str)],
}


def answer(text):
    return {"choices": [{"message": {"content": str(text)}}]}


def act(messages):
    word, _, number = messages[-1]["content"].partition(" ")
    return WORDS.get(word, lambda _: f"{os.getpid()} {messages[-1]['content']}")(float(number or 0))


class Handler(CustomLLM):
    """On the event loop."""

    async def acompletion(self, messages, **kwargs):
        result = act(messages)
        return answer(await result if asyncio.iscoroutine(result) else result)

    async def astreaming(self, messages, **kwargs):
        BEGUN.append("stream")
        try:
            yield {"text": "begun "}
            result = act(messages)
            yield {"text": str(await result if asyncio.iscoroutine(result) else result)}
            while messages[-1]["content"] == "endless":
                await asyncio.sleep(0.01)
                yield {"text": "more "}
        finally:
            DONE.append("closed")


class Synchronous(CustomLLM):
    """In a thread."""

    def completion(self, messages, **kwargs):
        return answer(act(messages))

    def streaming(self, messages, **kwargs):
        try:
            yield {"text": "begun "}
            yield {"text": str(act(messages))}
            while messages[-1]["content"] == "endless":
                time.sleep(0.01)
                yield {"text": "more "}
        finally:
            DONE.append("closed")
