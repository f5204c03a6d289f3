"""Public handlers' habits, re-made in a few lines each (none is the original)."""

import asyncio
import time

import litellm
from litellm import CustomLLM, ModelResponse
from litellm.llms.custom_llm import CustomLLMError
from litellm.types.utils import GenericStreamingChunk

AT_IMPORT = asyncio.run(asyncio.sleep(0, "ran at import"))


def said(text):
    return ModelResponse(choices=[{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}])


class FillsModelResponse(CustomLLM):
    """Raw dicts put into the ready object, the logging object used, no model set."""

    async def acompletion(self, model, messages, api_base, custom_prompt_dict, model_response, print_verbose, encoding, api_key,
                          logging_obj, optional_params, acompletion=None, litellm_params=None, logger_fn=None, headers={}, timeout=None, client=None):  # fmt: skip
        optional_params.pop("stream", None)
        logging_obj.pre_call(input=messages, api_key=api_key, additional_args={"x": 1})
        model_response.choices = [{"index": 0, "message": {"role": "assistant", "content": "filled"}, "finish_reason": "stop"}]
        model_response.usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        logging_obj.post_call(input=messages, original_response="x")
        await logging_obj.async_success_handler(model_response)
        logging_obj.model_call_details["x"] = 1
        return model_response


class OnlySynchronous(CustomLLM):
    """asyncio.run inside of completion, which only works in a thread."""

    def completion(self, model, messages, *args, **kwargs):
        return said(asyncio.run(asyncio.sleep(0, f"sync {messages[-1]['content']}")))


class OverridesToRefuse(CustomLLM):
    """acompletion is there only to say that it is not."""

    async def acompletion(self, *args, **kwargs):
        raise CustomLLMError(status_code=500, message="Not implemented yet!")

    async def astreaming(self, *args, **kwargs):
        raise NotImplementedError("no streaming")
        yield

    def streaming(self, *args, **kwargs):
        kwargs["messages"].clear()  # must not reach the method tried next
        raise NotImplementedError

    def completion(self, model, messages, **kwargs):
        return said(f"completion of {len(messages)} messages, stream={kwargs.get('stream')}")


class BlocksTheLoop(CustomLLM):
    """litellm's own example: a synchronous call in a coroutine."""

    async def acompletion(self, *args, **kwargs):
        return litellm.completion(model="openai/x", messages=[{"role": "user", "content": "x"}], mock_response="blocked a little")


class PopsAndLeaves(CustomLLM):
    async def acompletion(self, *args, **kwargs):
        messages = kwargs.pop("messages")
        kwargs["optional_params"].clear()
        kwargs["headers"].clear()
        return await asyncio.to_thread(said, f"popped {len(messages)}")


class NoSuperInit(CustomLLM):
    def __init__(self, greeting="hello"):
        self.greeting = greeting

    async def acompletion(self, model, messages, **kwargs):
        return said(f"{self.greeting}, {AT_IMPORT}")


class StreamsOnlyToRefuse(CustomLLM):
    """Streams fall back to the whole answer."""

    async def acompletion(self, model, messages, **kwargs):
        return said(f"whole, stream={kwargs.get('stream')}, {kwargs['optional_params'].get('stream')}")

    async def astreaming(self, *args, **kwargs):
        raise CustomLLMError(status_code=501, message="Streaming is not implemented")


class MixedChunks(CustomLLM):
    async def astreaming(self, model, messages, **kwargs):
        yield GenericStreamingChunk(text="one ", is_finished=False, finish_reason="", usage=None, index=0, tool_use=None)
        yield litellm.types.utils.ModelResponseStream(choices=[litellm.types.utils.StreamingChoices(delta=litellm.types.utils.Delta(content="two", role="assistant"))])
        yield GenericStreamingChunk(text="", is_finished=True, finish_reason="stop", usage=None, index=0, tool_use=None)


class ForwardsStream(CustomLLM):
    """Hands all it got to litellm.acompletion and passes its chunks on."""

    async def astreaming(self, *args, **kwargs):
        kwargs = {**kwargs, "model": "openai/x", "mock_response": "forwarded as a stream", "custom_llm_provider": None}
        async for chunk in await litellm.acompletion(*args, **kwargs):
            yield chunk


class TimedSleep(CustomLLM):
    async def acompletion(self, model, messages, timeout=None, **kwargs):
        time.sleep(0.01)
        return said(f"timeout {timeout}")


handler = NoSuperInit("module-level instance")
