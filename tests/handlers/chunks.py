"""Every kind of chunk and of iterator that a stream may be made of. Each class is one."""

from litellm import CustomLLM
from litellm.types.utils import Delta, GenericStreamingChunk, ModelResponseStream, StreamingChoices, Usage

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def generic(text, finished=False, reason="", usage=None, tool=None):
    return GenericStreamingChunk(text=text, is_finished=finished, finish_reason=reason, usage=usage, index=0, tool_use=tool)


class Generic(CustomLLM):
    async def astreaming(self, **kwargs):
        yield generic("Hel")
        yield generic("lo", True, "stop", USAGE)


class Loose(CustomLLM):
    """Missing keys, None as a reason, usage as an object and in a chunk of its own."""

    async def astreaming(self, **kwargs):
        yield {"text": ""}
        yield {"text": "Hel", "finish_reason": None, "is_finished": False}
        yield None
        yield {"text": "lo", "finish_reason": "end_turn"}
        yield {"usage": Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)}


class Objects(CustomLLM):
    async def astreaming(self, **kwargs):
        for text, reason in (("Hel", None), ("lo", "length")):
            yield ModelResponseStream(id=f"own-{text}", choices=[StreamingChoices(index=0, delta=Delta(content=text, role="assistant"), finish_reason=reason)])


class OpenAIDicts(CustomLLM):
    async def astreaming(self, **kwargs):
        yield {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
        yield {"id": "x", "choices": [{"index": 0, "delta": {"content": "Hel"}, "logprobs": {"content": []}}]}
        yield {"id": "y", "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]}
        yield {"id": "y", "choices": [], "usage": USAGE}


class Text(CustomLLM):
    async def astreaming(self, **kwargs):
        yield "Hel"
        yield "lo"


class Tools(CustomLLM):
    """A tool call in parts; the reason says stop."""

    async def astreaming(self, **kwargs):
        yield generic("", tool={"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}, "index": 0})
        yield generic("", tool={"id": None, "type": "function", "function": {"name": None, "arguments": '{"a":'}, "index": 0})
        yield generic("", tool={"id": None, "type": "function", "function": {"name": None, "arguments": "1}"}, "index": 0})
        yield generic("", True, "stop")


class ToolsWithoutIndex(CustomLLM):
    async def astreaming(self, **kwargs):
        yield {"tool_use": {"id": "c1", "function": {"name": "f", "arguments": "{}"}}}
        yield {"tool_use": {"id": "c2", "function": {"name": "g", "arguments": "{}"}}}


class TwoChoices(CustomLLM):
    async def astreaming(self, **kwargs):
        for index in (0, 1, 0, 1):
            yield {"choices": [{"index": index, "delta": {"content": f"c{index} "}}]}
        yield {"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}


class Coroutine(CustomLLM):
    """A coroutine that returns an iterator, as litellm's own base class has it."""

    async def astreaming(self, **kwargs):
        async def chunks():
            yield generic("Hel")
            yield generic("lo", True, "stop")

        return chunks()


class Synchronous(CustomLLM):
    def streaming(self, **kwargs):
        yield generic("Hel")
        yield generic("lo", True, "stop", USAGE)


class SynchronousFromAsync(CustomLLM):
    async def astreaming(self, **kwargs):
        return iter([generic("Hel"), generic("lo", True, "stop")])


class SynchronousList(CustomLLM):
    def streaming(self, **kwargs):
        return [generic("Hel"), generic("lo", True, "stop")]


class LosesStopIteration(CustomLLM):
    """A StopIteration from inside must not hang the stream."""

    def streaming(self, **kwargs):
        class Chunks:
            left = ["Hel", "lo"]

            def __iter__(self):
                return self

            def __next__(self):
                return generic(self.left.pop(0)) if self.left else next(iter([]))

        return Chunks()


class RaisesStopIteration(CustomLLM):
    def streaming(self, **kwargs):
        return next(iter([]))


class NoChunks(CustomLLM):
    async def astreaming(self, **kwargs):
        return
        yield


class WrongFirst(CustomLLM):
    async def astreaming(self, **kwargs):
        yield 42


class WrongLater(CustomLLM):
    async def astreaming(self, **kwargs):
        yield generic("Hel")
        yield 42


class NotAnIterator(CustomLLM):
    async def astreaming(self, **kwargs):
        return 42


class WrongTools(CustomLLM):
    async def astreaming(self, **kwargs):
        yield {"choices": [{"index": 0, "delta": {"tool_calls": 5}}]}


class WrongIndex(CustomLLM):
    async def astreaming(self, **kwargs):
        yield {"choices": [{"index": [1], "delta": {"content": "x"}}]}


class WrongReason(CustomLLM):
    async def astreaming(self, **kwargs):
        yield generic("Hel")
        yield generic("lo", True, ["stop"])
