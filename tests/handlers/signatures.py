"""Every signature that handlers were seen with. Each answers with JSON of what it got, so that a test can compare."""

import json

import litellm
from litellm import CustomLLM, ModelResponse
from litellm.llms.base import BaseLLM


def told(**values):
    """A ModelResponse whose text is JSON of the values; what is not JSON is named by its type."""
    text = json.dumps(values, sort_keys=True, default=lambda value: type(value).__name__)
    return ModelResponse(model="told", choices=[{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}])


class Documented(CustomLLM):
    async def acompletion(self, model, messages, api_base, custom_llm_provider, **kwargs):
        return told(model=model, messages=messages, api_base=api_base, custom_llm_provider=custom_llm_provider, **kwargs)


class DocumentedToJson(CustomLLM):
    """Sends all it got as JSON to a provider: nothing in it may be more than JSON."""

    async def acompletion(self, model, messages, api_base, custom_llm_provider, **kwargs):
        return told(sent=json.loads(json.dumps({"model": model, "messages": messages, **kwargs})))


class DocumentedNoRest(CustomLLM):
    async def acompletion(self, model, messages, api_base, custom_llm_provider, temperature=None):
        return told(model=model, temperature=temperature, custom_llm_provider=custom_llm_provider)


class Full(CustomLLM):
    """litellm's own sixteen names, without **kwargs."""

    async def acompletion(
        self, model, messages, api_base, custom_prompt_dict, model_response, print_verbose, encoding, api_key, logging_obj,
        optional_params, acompletion=None, litellm_params=None, logger_fn=None, headers={}, timeout=None, client=None,
    ):  # fmt: skip
        got = {name: value for name, value in locals().items() if name != "self"}
        print_verbose("a no-op")
        logging_obj.pre_call(input=messages, api_key=api_key)
        optional_params.pop("temperature", None)
        headers["x-changed"] = "by the handler"
        return told(**{**got, "optional_params": optional_params})


class FullOptional(CustomLLM):
    def completion(
        self, model=None, messages=None, api_base=None, custom_prompt_dict=None, model_response=None, print_verbose=None,
        encoding=None, api_key=None, logging_obj=None, optional_params=None, acompletion=None, litellm_params=None,
        logger_fn=None, headers=None, timeout=None, client=None, **kwargs,
    ):  # fmt: skip
        return told(json={**optional_params, "model": model}, flat=kwargs)


class SomeNames(CustomLLM):
    async def acompletion(self, model, messages, optional_params, api_key=None, **kwargs):
        return told(model=model, optional_params=optional_params, api_key=api_key, rest=sorted(kwargs))


class SomeNamesOnly(CustomLLM):
    async def acompletion(self, model, messages, optional_params, litellm_params):
        return told(model=model, optional_params=optional_params, litellm_params=litellm_params)


class ModelAndMessages(CustomLLM):
    """Reads flat max_tokens and nested tools at once."""

    async def acompletion(self, model, messages, **kwargs):
        return told(max_tokens=kwargs.get("max_tokens"), tools=kwargs.get("optional_params", {}).get("tools"))


class Agno(CustomLLM):
    async def acompletion(self, model, messages, api_base=None, custom_llm_provider="x", **kwargs):
        metadata = kwargs["litellm_params"].get("metadata", {})
        return told(custom_llm_provider=custom_llm_provider, temperature=kwargs.get("temperature"), user=kwargs.get("user"), metadata=metadata)


class Anything(CustomLLM):
    async def acompletion(self, *args, **kwargs):
        return told(args=args, **kwargs)


class OnlyRest(CustomLLM):
    async def acompletion(self, **kwargs):
        return told(**kwargs)


class KeywordOnly(CustomLLM):
    async def acompletion(self, *, model, messages, headers, timeout):
        return told(model=model, headers=headers, timeout=timeout)


class PositionalOnly(CustomLLM):
    async def acompletion(self, model, messages, /, api_key, **kwargs):
        return told(model=model, messages=messages, api_key=api_key, seed=kwargs.get("seed"))


class PositionalDefault(CustomLLM):
    """By position only, and with a default that stands where the request says nothing."""

    async def acompletion(self, model, messages, temperature=0.25, api_key="none", /):
        return told(model=model, temperature=temperature, api_key=api_key)


class MessagesFirst(CustomLLM):
    def completion(self, messages, api_key=None, **kwargs):
        return told(messages=messages, api_key=api_key, model=kwargs["model"])


class ForwardsAll(CustomLLM):
    """Hands everything on to litellm, which must not stumble over any of it."""

    async def acompletion(self, *args, **kwargs):
        kwargs = {**kwargs, "model": "openai/" + kwargs["model"], "mock_response": "forwarded", "custom_llm_provider": None}
        return await litellm.acompletion(*args, **kwargs)


class RequiredField(CustomLLM):
    """A field of OpenAI's that a request may lack: None then."""

    async def acompletion(self, model, messages, temperature, **kwargs):
        return told(temperature=temperature)


class Streams(CustomLLM):
    """What a streaming method is handed."""

    async def astreaming(self, *args, **kwargs):
        yield json.dumps(kwargs, sort_keys=True, default=lambda value: type(value).__name__)


class ChangesAll(CustomLLM):
    """Tells what it got, and leaves nothing of it as it was."""

    async def acompletion(self, **kwargs):
        answer = told(**kwargs)
        kwargs["messages"][0]["content"] = "changed"
        for given in [kwargs, *(value for value in kwargs.values() if isinstance(value, dict))]:
            given.update(changed=True)
            given.pop("temperature", None)
        kwargs["tools"].clear()
        kwargs["optional_params"]["metadata"]["a"] = "changed"
        return answer


class OldBase(BaseLLM):
    """Not a CustomLLM: accepted with a warning."""

    async def acompletion(self, model, messages, **kwargs):
        return told(model=model)


class Undecorated(CustomLLM):
    """A plain function that returns a coroutine, as decorators leave it."""

    def acompletion(self, model, messages, **kwargs):
        return self.really(model)

    async def really(self, model):
        return told(model=model)


class RequiredUnknown(CustomLLM):
    """Cannot be called by anybody: refused when it is loaded."""

    async def acompletion(self, model, messages, tenant, **kwargs):
        return told()
