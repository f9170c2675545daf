"""What a server understands, and a completion in its words. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Literal

Prompt = str | list[int]
Api = Literal["completions", "chat"]


@dataclass(slots=True)
class Dialect:
    """Learned by asking; `tokenize` is "llama" or "vllm" where the server counts tokens."""

    api: Api = "completions"
    tokenize: str | None = None
    ignore_eos: bool = True
    include_usage: bool = True
    cache_prompt: bool = False

    def body(self, model: str, prompt: Prompt, output_tokens: int) -> bytes:
        """The request's JSON."""
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
        }
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if self.include_usage:
            body["stream_options"] = {"include_usage": True}
        if self.ignore_eos:
            body["ignore_eos"] = True
        if self.tokenize == "llama":
            body["cache_prompt"] = self.cache_prompt
        return json.dumps(body).encode()

    @property
    def path(self) -> str:
        return "/chat/completions" if self.api == "chat" else "/completions"
