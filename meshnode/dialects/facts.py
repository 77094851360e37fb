"""Reads from a request body the few facts that routing needs, in one typed pass, and leaves the bytes alone.

Not for judging a request (the engine does that: unknown fields pass through) nor for exact token counts (the engine's
tokenizer). Counterpart: `status`, which tells the client what was wrong.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from meshnode.errors import BadRequest
from meshnode.model.job import Facts

CHAT: Final = "/v1/chat/completions"
COMPLETION: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"

CHARACTERS_PER_TOKEN: Final = 4.0
"""English prose has more: 4.8 (a tale) to 5.2 (a licence) with SmolLM2's vocabulary of 49k entries, so this
over-estimates it by 20 to 30 %. Code comes out about right, dense technical notes 10 % low."""

TOKENS_PER_EXTRA_BYTE: Final = 0.36
"""For what UTF-8 needs beyond one byte a character: brings Chinese and Japanese to one token a character."""

TOKENS_PER_MESSAGE: Final = 4
"""Role and delimiters, as in ChatML; Llama's template needs as many."""

TOKENS_PER_IMAGE: Final = 1024
"""Vision encoders give 256 to 1,280 tokens an image of ordinary size."""

BYTES_PER_SCHEMA_TOKEN: Final = 3
"""JSON is denser in tokens than prose."""

SESSION_CHARACTERS: Final = 200
"""What is kept of a session key: those of real clients have at most 80."""

PREFIX_CHARACTERS: Final = 1024
"""Of a prompt that stand for its conversation where the client names none: two that agree so far share most of what an
engine could keep of them."""

_SHARED_ROLES: Final = frozenset({"system", "developer"})

_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_NOTHING: Final = msgspec.Raw(b"")


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: msgspec.Raw = _NOTHING


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Common(msgspec.Struct):
    model: _Name
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    prompt_cache_key: str | None = None
    metadata: msgspec.Raw = _NOTHING
    conversation: msgspec.Raw = _NOTHING


class _Chat(_Common, kw_only=True):
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_completion_tokens: int | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None


_Prompt = str | list[str | int | list[int]]


class _Completion(_Common, kw_only=True):
    prompt: _Prompt


class _Embeddings(_Common, kw_only=True):
    input: _Prompt


class _Session(msgspec.Struct):
    """Where a body may carry a conversation's name: `metadata.user_id`, `conversation` as an object."""

    user_id: str = ""
    id: str = ""
    session_id: str = ""


_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETION = msgspec.json.Decoder(_Completion)
_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)
_SESSION = msgspec.json.Decoder(_Session)
_TEXT = msgspec.json.Decoder(str)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])

_SESSION_HEADERS: Final = (
    "session-id",
    "thread-id",
    "session_id",
    "x-opencode-session",
    "x-session-affinity",
    "x-session-id",
    "x-openwebui-chat-id",
)


def read_facts(route: str, body: bytes, headers: Mapping[str, str], secret: bytes = b"") -> Facts:
    """What routing must know of a request to `route`, one of CHAT, COMPLETION, EMBEDDINGS.

    Header names are lower case. Where the client names no conversation, a keyed hash (BLAKE2b) of the prompt's
    beginning under `secret` stands for it; without a secret nothing does. Raises BadRequest, its `param` naming the
    field at fault as OpenAI does.
    """
    try:
        if route == CHAT:
            return _chat(_CHAT.decode(body), headers, secret)
        if route == COMPLETION:
            asked = _COMPLETION.decode(body)
            session = _session(asked, headers) or _prefix(asked.prompt if isinstance(asked.prompt, str) else "", secret)
            return _facts(asked, session, {"completion"}, _prompt_tokens(asked.prompt), asked.max_tokens)
        if route == EMBEDDINGS:
            wanted = _EMBEDDINGS.decode(body)
            return _facts(wanted, _session(wanted, headers), {"embeddings"}, _prompt_tokens(wanted.input), None)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"The request body is not valid JSON: {reason}") from error
    raise BadRequest(f"{route} takes no inference requests")


def rewrite_model(body: bytes, name: str) -> bytes:
    """The same request for the model `name`: every other member keeps its bytes. Raises BadRequest."""
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}") from error
    members["model"] = msgspec.Raw(msgspec.json.encode(name))
    return b"{" + b",".join(msgspec.json.encode(key) + b":" + bytes(raw) for key, raw in members.items()) + b"}"


def _chat(asked: _Chat, headers: Mapping[str, str], secret: bytes) -> Facts:
    tools = (asked.tools or []) + (asked.functions or [])
    needs = {"chat", "tools"} if tools else {"chat"}
    tokens = 3 + sum(len(bytes(tool)) for tool in tools) / BYTES_PER_SCHEMA_TOKEN
    for message in asked.messages:
        tokens += TOKENS_PER_MESSAGE + len(bytes(message.tool_calls)) / BYTES_PER_SCHEMA_TOKEN
        if isinstance(message.content, str):
            tokens += _text_tokens(message.content)
            continue
        for part in message.content or ():
            if "image" in part.type:
                needs.add("vision")
                tokens += TOKENS_PER_IMAGE
            tokens += _text_tokens(part.text or "")
    limit = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    session = _session(asked, headers) or _prefix(_opening(asked.messages), secret)
    return _facts(asked, session, needs, tokens, limit)


def _opening(messages: list[_Message]) -> str:
    """The first words past the system text, which all conversations of one program share. Later messages come as the
    conversation goes on, so they cannot name it."""
    first = next((message.content for message in messages if message.role not in _SHARED_ROLES), None)
    if first is None or isinstance(first, str):
        return first or ""
    return "\n".join(part.text for part in first if part.text)


def _prefix(opening: str, secret: bytes) -> str | None:
    """A name for a conversation that has none, from how it begins."""
    if not (secret and opening):
        return None
    begun = opening[:PREFIX_CHARACTERS].encode("utf-8", "replace")
    return f"prefix:{hashlib.blake2b(begun, key=secret[: hashlib.blake2b.MAX_KEY_SIZE], digest_size=16).hexdigest()}"


def _facts(asked: _Common, session: str | None, needs: set[str], tokens: float, limit: int | None) -> Facts:
    return Facts(
        model=asked.model,
        stream=bool(asked.stream),
        needs=frozenset(needs),
        prompt_tokens=int(tokens),
        max_tokens=max(limit or 0, 0),
        include_usage=bool(asked.stream_options is not None and asked.stream_options.include_usage),
        session=session,
    )


def _text_tokens(text: str) -> float:
    if text.isascii():
        return len(text) / CHARACTERS_PER_TOKEN
    extra = len(text.encode("utf-8", "replace")) - len(text)
    return len(text) / CHARACTERS_PER_TOKEN + extra * TOKENS_PER_EXTRA_BYTE


def _prompt_tokens(prompt: _Prompt) -> float:
    """Of the longest, since each prompt of a list has a context of its own. A list of numbers is one prompt."""
    if isinstance(prompt, str):
        return _text_tokens(prompt)
    longest = 0.0
    numbers = 0
    for each in prompt:
        if isinstance(each, int):
            numbers += 1
        else:
            longest = max(longest, _text_tokens(each) if isinstance(each, str) else len(each))
    return max(longest, numbers)


def _session(asked: _Common, headers: Mapping[str, str]) -> str | None:
    """The first name that a real client gives its conversation, in the order of requests.md §1.3."""
    found = headers.get("x-claude-code-session-id") or _user_session(asked.metadata)
    if not found and not headers.keys().isdisjoint(_SESSION_HEADERS):
        found = next((headers[name] for name in _SESSION_HEADERS if headers.get(name)), "")
    found = found or asked.prompt_cache_key or _conversation(asked.conversation)
    return found[:SESSION_CHARACTERS] or None


def _user_session(metadata: msgspec.Raw) -> str:
    """Claude Code writes `user_…_session_<id>`, newer ones a JSON object with `session_id`, into `metadata.user_id`."""
    user = _lenient(metadata).user_id
    if user.startswith("{"):
        return _lenient(msgspec.Raw(user)).session_id
    return user.partition("_session_")[2]


def _conversation(raw: msgspec.Raw) -> str:
    """The Responses API has it as a string or as an object with an id."""
    return _TEXT.decode(raw) if bytes(raw).startswith(b'"') else _lenient(raw).id


def _lenient(raw: msgspec.Raw) -> _Session:
    """A field that is only a hint is never an error."""
    try:
        return _SESSION.decode(raw) if bytes(raw) else _Session()
    except (msgspec.DecodeError, RecursionError):
        return _Session()


_MISSING = re.compile(r"missing required field `(\w+)`")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


def _wrong_field(problem: str) -> BadRequest:
    """From msgspec's words, such as "Expected `str`, got `int` - at `$.messages[0].role`", to OpenAI's."""
    place = _PLACE.search(problem)
    where = place.group(1) if place is not None else ""
    what = problem[: place.start()] if place is not None else problem
    missing = _MISSING.search(what)
    if missing is not None:
        param = f"{where}.{missing.group(1)}" if where else missing.group(1)
        return BadRequest(f"Missing required parameter: '{param}'.", param=param)
    if not where:
        return BadRequest(f"The request body has the wrong form: {what}")
    return BadRequest(f"Invalid value for '{where}': {what}.", param=where)
