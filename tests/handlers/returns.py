"""Every kind of value that a handler may return, and some that it may not. Each class is one."""

import pydantic
from litellm import CustomLLM, ModelResponse
from litellm.types.utils import Choices, Message, Usage
from openai.types.chat import ChatCompletion


def whole(**more):
    return {"choices": [{"message": {"role": "assistant", "content": "text"}}], **more}


class Response(CustomLLM):
    async def acompletion(self, **kwargs):
        return ModelResponse(choices=[Choices(message=Message(content="text"))], usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3))


class Complete(CustomLLM):
    async def acompletion(self, **kwargs):
        return ModelResponse(id="own-id", created=5, model="own-model", choices=[Choices(message=Message(content="text"), finish_reason="length")])


class ToolCall(CustomLLM):
    async def acompletion(self, **kwargs):
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        return ModelResponse(choices=[{"message": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}])


class Dict(CustomLLM):
    async def acompletion(self, **kwargs):
        return whole()


class DictOfObjects(CustomLLM):
    async def acompletion(self, **kwargs):
        return {"choices": [Choices(message=Message(content="text"))], "usage": Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)}


class OpenAIObject(CustomLLM):
    async def acompletion(self, model, **kwargs):
        return ChatCompletion.model_validate(
            {"id": "o", "object": "chat.completion", "created": 5, "model": model, "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "text"}}]}
        )


class OwnModel(CustomLLM):
    async def acompletion(self, **kwargs):
        class Answer(pydantic.BaseModel):
            choices: list

        return Answer(choices=whole()["choices"])


class Awaitable(CustomLLM):
    async def acompletion(self, **kwargs):
        async def later():
            return whole()

        return later()


class Empty(CustomLLM):
    """The ready object, returned as it came."""

    async def acompletion(self, model_response, **kwargs):
        return model_response


class Surrogate(CustomLLM):
    """Half of a character, as a cut JSON string leaves it."""

    async def acompletion(self, **kwargs):
        return ModelResponse(model="m", choices=[{"message": {"role": "assistant", "content": "\ud83d half, ünïcode 🦀"}, "finish_reason": "stop"}])


class StreamUnasked(CustomLLM):
    """An asynchronous iterator where a whole answer was asked for."""

    async def acompletion(self, **kwargs):
        async def chunks():
            yield {"text": "gath", "is_finished": False, "finish_reason": None}
            yield {"text": "ered", "is_finished": True, "finish_reason": "length", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}

        return chunks()


class Nothing(CustomLLM):
    async def acompletion(self, **kwargs):
        pass


class Text(CustomLLM):
    async def acompletion(self, **kwargs):
        return "text"


class Number(CustomLLM):
    async def acompletion(self, **kwargs):
        return 42


class NoChoices(CustomLLM):
    async def acompletion(self, **kwargs):
        return {"content": "text"}


class NotANumber(CustomLLM):
    async def acompletion(self, **kwargs):
        return whole(score=float("nan"))


class WrongToolCalls(CustomLLM):
    async def acompletion(self, **kwargs):
        return {"choices": [{"message": {"tool_calls": 5}}]}


class WrongFinish(CustomLLM):
    async def acompletion(self, **kwargs):
        return {"choices": [{"message": {"content": "text"}, "finish_reason": ["stop"]}]}


class Endless(CustomLLM):
    async def acompletion(self, **kwargs):
        answer = whole()
        answer["self"] = answer
        return answer
