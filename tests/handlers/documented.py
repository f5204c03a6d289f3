"""The shape of Galileo's documentation: flat parameters, called directly."""

from litellm import CustomLLM, ModelResponse


class Handler(CustomLLM):
    def __init__(self, timeout=30, retry_count=1):
        super().__init__()
        self.timeout, self.retry_count = timeout, retry_count

    async def acompletion(self, model, messages, api_base, custom_llm_provider, **kwargs):
        told = {
            "base": api_base,
            "provider": custom_llm_provider,
            "temperature": kwargs.get("temperature"),
            "max_tokens": kwargs.get("max_tokens"),
            "init": [self.timeout, self.retry_count],
            "kwargs": sorted(kwargs),
        }
        return ModelResponse(
            model=model,
            choices=[{"index": 0, "message": {"role": "assistant", "content": f"{messages[-1]['content']} {told}"}, "finish_reason": "stop"}],
            usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        )
