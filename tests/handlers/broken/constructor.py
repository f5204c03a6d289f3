"""Constructors that fail."""

from litellm import CustomLLM


class Wants(CustomLLM):
    def __init__(self, region, retry_count=3):
        super().__init__()

    async def acompletion(self, **kwargs):
        pass


class Raises(CustomLLM):
    def __init__(self, api_key=None):
        raise ValueError(f"cannot log in with {api_key}")

    async def acompletion(self, **kwargs):
        pass
