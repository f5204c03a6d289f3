"""Tells the log what it was handed, in every way in which a program gives a key away."""

import sys
import traceback
import urllib.parse

from litellm import CustomLLM


class Handler(CustomLLM):
    def __init__(self, region, api_secret):
        super().__init__()
        self.secret = api_secret
        print(f"constructed in {region} with {api_secret}", file=sys.stderr)

    async def acompletion(self, api_key, **kwargs):
        print(f"the key is {api_key}", file=sys.stderr)
        print("headers:", {"Authorization": f"Bearer {api_key}"}, file=sys.stderr)
        print("url:", "https://a.example/?key=" + urllib.parse.quote(api_key, safe=""), file=sys.stderr)
        print("long", "x" * (16384 - len("long ") - 10) + api_key, file=sys.stderr)
        try:
            raise ValueError(f"{api_key} and {self.secret} were refused")
        except ValueError:
            traceback.print_exc()
        print(f"said all with a key of {len(api_key)} letters", file=sys.stderr)
        sys.stderr.flush()
        return {"choices": [{"message": {"content": "said"}}]}


class Broken(CustomLLM):
    def __init__(self, api_secret):
        raise ValueError(f"cannot log in with {api_secret}")
