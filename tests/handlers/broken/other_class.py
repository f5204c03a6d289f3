"""Has handlers, but none by the name asked for."""

from litellm import CustomLLM


class First(CustomLLM):
    async def acompletion(self, **kwargs):
        pass


class Second(CustomLLM):
    pass


class Plain:
    async def acompletion(self, **kwargs):
        pass


Instance = First()
