"""Raises what the last message names, where it says: `whole NAME`, `first NAME` (before the first chunk), `later NAME` (after it)."""

import asyncio
import sys

import httpx
import litellm
import openai
from litellm import CustomLLM
from litellm.llms.custom_llm import CustomLLMError

REQUEST = httpx.Request("POST", "https://up.example/v1/chat?key=k")


def response(status, **headers):
    return httpx.Response(status, headers=headers, request=REQUEST, json={"error": {"message": "said upstream"}})


class Odd(Exception):
    """Everything about it fails."""

    status_code = property(lambda self: 1 / 0)

    def __str__(self):
        raise RuntimeError


class OwnStatus(Exception):
    """A handler's own exception that carries what an answer needs."""

    status_code, code, param, type = 422, "bad_field", "messages", "whatever"


def status_error(error_class, status, **headers):
    return error_class("said openai", response=response(status, **headers), body={"code": "own_code"})


ERRORS = {
    "custom-400": lambda key: CustomLLMError(400, "bad"),
    "custom-401": lambda key: CustomLLMError(401, f"key {key} and Bearer {key} are wrong"),
    "custom-418": lambda key: CustomLLMError(418, "teapot"),
    "custom-429": lambda key: CustomLLMError(429, "slow down"),
    "custom-503": lambda key: CustomLLMError(503, "full"),
    "custom-504": lambda key: CustomLLMError(504, "upstream was late"),
    "custom-text": lambda key: CustomLLMError("429", "a status that is a string"),
    "custom-200": lambda key: CustomLLMError(200, "no status of an error"),
    "custom-long": lambda key: CustomLLMError(400, "x" * 100_000),
    "custom-cut": lambda key: CustomLLMError(500, "x" * 495 + key),  # our log's lines end inside of it
    "custom-many": lambda key: CustomLLMError(400, f"{key} " * 200),
    "custom-quoted": lambda key: CustomLLMError(400, f"sent {dict(headers={'x-signed-token': 's1gned-value'})}"),
    "custom-path": lambda key: CustomLLMError(400, "failed in /opt/custom_llms/deep/h.py, see https://docs.example/a/b.py"),
    "litellm-rate": lambda key: litellm.RateLimitError("too many", llm_provider="x", model="m", response=response(429, **{"Retry-After": "7"})),
    "litellm-context": lambda key: litellm.ContextWindowExceededError("too long", model="m", llm_provider="x"),
    "litellm-timeout": lambda key: litellm.Timeout("late", model="m", llm_provider="x"),
    "openai-rate": lambda key: status_error(openai.RateLimitError, 429, **{"retry-after": "3"}),
    "openai-connection": lambda key: openai.APIConnectionError(request=REQUEST),
    "openai-timeout": lambda key: openai.APITimeoutError(request=REQUEST),
    "httpx-status": lambda key: httpx.HTTPStatusError("404 for url", request=REQUEST, response=response(404)),
    "httpx-timeout": lambda key: httpx.ReadTimeout("slow", request=REQUEST),
    "httpx-connect": lambda key: httpx.ConnectError("refused", request=REQUEST),
    "own-status": lambda key: OwnStatus("own text"),
    "timeout": lambda key: asyncio.TimeoutError(),
    "connection": lambda key: ConnectionResetError("peer"),
    "value": lambda key: ValueError(f"secret {key} and {dict(environment='dump')}"),
    "value-cut": lambda key: ValueError("x" * 495 + key),
    "assertion": lambda key: AssertionError(),
    "key": lambda key: KeyError("choices"),
    "odd": lambda key: Odd(),
    "exit": lambda key: SystemExit(3),
    "interrupt": lambda key: KeyboardInterrupt(),
    "generator-exit": lambda key: GeneratorExit(),
    "cancelled": lambda key: asyncio.CancelledError(),
    "stop-async": lambda key: StopAsyncIteration(),
    "memory": lambda key: MemoryError(),
    "not-implemented": lambda key: NotImplementedError("nothing here"),
}


def act(stage, messages, api_key):
    wanted, name = messages[-1]["content"].split()
    if wanted == stage:
        raise ERRORS[name](api_key)


class Handler(CustomLLM):
    async def acompletion(self, messages, api_key, **kwargs):
        act("whole", messages, api_key)
        return {"choices": [{"message": {"content": "fine"}}]}

    async def astreaming(self, messages, api_key, **kwargs):
        act("first", messages, api_key)
        yield {"text": "Hel"}
        act("later", messages, api_key)
        yield {"text": "lo", "is_finished": True, "finish_reason": "stop"}


class Synchronous(CustomLLM):
    def completion(self, messages, api_key, **kwargs):
        act("whole", messages, api_key)
        return {"choices": [{"message": {"content": "fine"}}]}

    def streaming(self, messages, api_key, **kwargs):
        act("first", messages, api_key)
        yield {"text": "Hel"}
        act("later", messages, api_key)
        yield {"text": "lo", "is_finished": True, "finish_reason": "stop"}


class ExitsInATask(CustomLLM):
    """sys.exit in a task of its own: it passes through the event loop."""

    async def acompletion(self, **kwargs):
        async def leave():
            sys.exit(3)

        await asyncio.get_running_loop().create_task(leave())


class StopsTheLoop(CustomLLM):
    async def acompletion(self, **kwargs):
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return {"choices": [{"message": {"content": "went on"}}]}
