"""Imports a file beside it at once, and another one when it is first called."""

import helper_module
from litellm import CustomLLM, ModelResponse


class Handler(CustomLLM):
    async def acompletion(self, model, messages, **kwargs):
        import late_module

        return ModelResponse(choices=[{"message": {"content": f"{helper_module.ANSWER}, {late_module.ANSWER}"}}])
