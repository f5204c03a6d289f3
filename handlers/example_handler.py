"""A handler to copy: a provider with a format of its own answers OpenAI's chat completions.

Acme, the provider, is made up. It takes a POST of
    {"engine": "acme-1", "instruction": "…", "turns": [{"author": "user", "text": "hello"}], "limit": 100, "heat": 0.5}
and answers
    {"text": "Hello.", "ended": "done", "counts": {"read": 1, "written": 1}}
With "live": true it streams one JSON text a line: {"text": "Hel"}, {"text": "lo."}, {"ended": "done", "counts": {…}}.
It refuses with a status and {"problem": "…"}.

There is no authentication code here: `headers` has what the integration's authorization puts on a request, a fresh
token included. With `egress = true` in [handlers] the token is not among them: Outrider adds it on the way.
"""

import json

import httpx
from litellm import CustomLLM, ModelResponse
from litellm.llms.custom_llm import CustomLLMError

REASONS = {"done": "stop", "limit": "length", "call": "tool_calls", "blocked": "content_filter"}


class ExampleHandler(CustomLLM):
    """Made once in each worker; what it holds is shared by all calls of that worker."""

    def __init__(self, path="/generate", silence=120.0):
        super().__init__()
        self.path = path
        # One client for the life of the worker: it keeps connections, and making one costs 40 ms.
        self.client = httpx.AsyncClient(timeout=httpx.Timeout(silence, connect=5.0))

    async def acompletion(self, model, messages, api_base, custom_llm_provider, **kwargs):
        question = to_acme(model, messages, kwargs)
        response = await self.client.post(api_base + self.path, json=question, headers=kwargs.get("headers"))
        if not response.is_success:
            raise refusal(response)
        answer = from_json(response.text)
        message = {"role": "assistant", "content": answer.get("text")}
        if answer.get("calls"):
            message["tool_calls"] = [tool_call(call) for call in answer["calls"]]
        choice = {"index": 0, "message": message, "finish_reason": REASONS.get(answer.get("ended"), "stop")}
        return ModelResponse(model=model, choices=[choice], usage=usage(answer))

    async def astreaming(self, model, messages, api_base, custom_llm_provider, **kwargs):
        question = {**to_acme(model, messages, kwargs), "live": True}
        ended = False
        # Read to its end, a stream gives its connection back; left in the middle, since the client has gone, it is closed.
        async with self.client.stream("POST", api_base + self.path, json=question, headers=kwargs.get("headers")) as response:
            if not response.is_success:
                await response.aread()
                raise refusal(response)
            async for line in response.aiter_lines():
                piece = from_json(line) if line.strip() else {}
                if "ended" in piece:
                    ended, reason = True, REASONS.get(piece["ended"], "stop")
                    yield {"text": "", "is_finished": True, "finish_reason": reason, "usage": usage(piece)}
                for call in piece.get("calls", ()):
                    yield {"text": "", "is_finished": False, "finish_reason": "", "usage": None, "tool_use": tool_call(call)}
                if piece.get("text"):
                    yield {"text": piece["text"], "is_finished": False, "finish_reason": "", "usage": None}
        if not ended:
            raise CustomLLMError(502, "Acme's stream broke off")


def to_acme(model, messages, parameters):
    question = {"engine": model, "turns": []}
    instructions = [text(m) for m in messages if m["role"] in ("system", "developer")]
    if instructions:
        question["instruction"] = "\n\n".join(instructions)
    for message in messages:
        if message["role"] in ("user", "assistant"):
            turn = {"author": message["role"], "text": text(message)}
            if message.get("tool_calls"):
                turn["calls"] = [acme_call(call) for call in message["tool_calls"]]
            question["turns"].append(turn)
        elif message["role"] == "tool":
            question["turns"].append({"author": "tool", "ref": message["tool_call_id"], "text": text(message)})
    for ours, acmes in (("max_tokens", "limit"), ("temperature", "heat"), ("stop", "stop_at")):
        if parameters.get(ours) is not None:
            question[acmes] = parameters[ours]
    if parameters.get("tools"):
        question["functions"] = [tool["function"] for tool in parameters["tools"] if tool["type"] == "function"]
    return question


def text(message):
    """The text of a message. What Acme cannot be told is refused, not left out."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    others = {part["type"] for part in content} - {"text"}
    if others:
        raise CustomLLMError(400, f"Acme takes text alone, not {', '.join(sorted(others))}")
    return "".join(part["text"] for part in content)


def acme_call(call):
    arguments = from_json(call["function"]["arguments"] or "{}", 400, f"the arguments of call {call['id']} are no JSON object")
    return {"ref": call["id"], "name": call["function"]["name"], "input": arguments}


def tool_call(call):
    function = {"name": call["name"], "arguments": json.dumps(call["input"])}
    return {"id": call["ref"], "type": "function", "function": function}


def usage(answer):
    counts = answer.get("counts")
    if not counts:
        return None  # unknown is not zero
    read, written = counts["read"], counts["written"]
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def from_json(body, status=502, complaint="Acme's answer is not what its API promises"):
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CustomLLMError(status, complaint)
    return value


def refusal(response):
    """Acme's error with its status. Outrider gives the client the message, and the `retry-after` of `error.headers`."""
    try:
        words = str(response.json()["problem"])
    except (ValueError, KeyError, TypeError):
        words = f"Acme answered {response.status_code} without a reason"
    error = CustomLLMError(response.status_code if response.is_error else 502, words)
    error.headers = response.headers
    return error
