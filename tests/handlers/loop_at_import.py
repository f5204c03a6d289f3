"""Needs a running event loop when it is imported and when it is made."""

import asyncio

import aiohttp
from litellm import CustomLLM, ModelResponse

SESSION = aiohttp.ClientSession()


class Handler(CustomLLM):
    def __init__(self):
        self.lock = asyncio.Lock()
        self.task = asyncio.get_running_loop().create_task(asyncio.sleep(0, "a task of the constructor"))

    async def acompletion(self, model, messages, **kwargs):
        async with self.lock:
            same = SESSION._loop is asyncio.get_running_loop()
            return ModelResponse(choices=[{"message": {"content": f"{await self.task}, same loop: {same}"}}])
