"""Does not load while there is a file `down` beside it; `exit` ends its process."""

import os

from litellm import CustomLLM

if os.path.exists(os.path.join(os.path.dirname(__file__), "down")):
    raise OSError("it is down")


class Handler(CustomLLM):
    async def acompletion(self, messages, **kwargs):
        if messages[-1]["content"] == "exit":
            os._exit(3)
        return {"choices": [{"message": {"content": "ok"}}]}
