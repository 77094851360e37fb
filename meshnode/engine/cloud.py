"""Asks a commercial API, in its own dialect, over TLS alone, with a key that nobody else learns.

An answer here knows what it used, so that dispatch can settle its price. Not for deciding whether to ask
(routing.fallback). Counterpart: the provider's HTTPS endpoint.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from meshnode.config.cloud import CloudProvider, CloudSection
from meshnode.config.engine import EngineSection
from meshnode.dialects import anthropic, anthropic_answer
from meshnode.dialects.facts import CHAT, rewrite_model
from meshnode.engine.adapter import Engine
from meshnode.engine.client import EngineClient
from meshnode.engine.priced import CountedAnswer, KnownAnswer, PricedAnswer, TranslatedAnswer, read_all
from meshnode.errors import BadRequest, ConfigError
from meshnode.keep.secrets import read_secret
from meshnode.model.job import Job

KEY_BYTES = 4096


class Provider:
    """One account at one provider. Raises ConfigError where it could not be asked safely."""

    def __init__(
        self, section: CloudProvider, cloud: CloudSection, key: str, client: EngineClient | None = None
    ) -> None:
        _check_url(section)
        engine = EngineSection(connect_timeout_s=cloud.connect_timeout_s)
        self.name = section.name
        self._dialect = section.dialect
        self._key = key
        self._usual_tokens = cloud.usual_tokens
        self._engine = Engine(client or EngineClient(section.url, engine), engine, f"{section.name} (cloud)")

    async def serve(self, job: Job, model: str) -> PricedAnswer:
        """Ask `model` what `job` asks; the answer is in OpenAI's dialect. Raises RequestError."""
        if self._dialect == "anthropic":
            return await self._anthropic(job, model)
        answer = await self._engine.serve(job.route, self._headers(), _telling_usage(job, model))
        return CountedAnswer(answer, hides_usage=job.facts.stream and not job.facts.include_usage)

    def close(self) -> None:
        """Close idle connections."""
        self._engine.client.close()

    async def _anthropic(self, job: Job, model: str) -> PricedAnswer:
        if job.route != CHAT:
            raise BadRequest(f"{self.name} answers chats alone")
        body = anthropic.request(job.body, model, self._usual_tokens)
        answer = await self._engine.serve(anthropic.MESSAGES, self._headers(), body)
        if answer.status != 200:
            return CountedAnswer(answer, hides_usage=False)
        created = int(time.time())
        if job.facts.stream:
            translation = anthropic_answer.Translation(model, created, shows_usage=job.facts.include_usage)
            return TranslatedAnswer(answer, translation)
        said, usage = anthropic_answer.whole(await read_all(answer), model, created)
        return KnownAnswer(said, usage)

    def _headers(self) -> Mapping[str, str]:
        if self._dialect == "anthropic":
            return {
                "content-type": "application/json",
                "x-api-key": self._key,
                "anthropic-version": anthropic.VERSION,
            }
        return {"content-type": "application/json", "authorization": f"Bearer {self._key}"}


def providers(cloud: CloudSection, environment: Mapping[str, str] = os.environ) -> dict[str, Provider]:
    """Every configured provider by name. Raises ConfigError with every fault, SecretFileError for a key file that
    others can read."""
    faults: list[str] = []
    found: dict[str, Provider] = {}
    for section in cloud.providers:
        key = _key(section, environment)
        if not key or not key.isascii() or not key.isprintable():
            where = f"the file {section.key_file}" if section.key_file else f"the variable {section.key_env or '?'}"
            faults.append(f"cloud.providers: {section.name}: there is no key in {where}")
        if section.name in found:
            faults.append(f"cloud.providers: {section.name} is there twice")
        try:
            found[section.name] = Provider(section, cloud, key)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return found


def _key(section: CloudProvider, environment: Mapping[str, str]) -> str:
    if section.key_file:
        data = read_secret(Path(section.key_file).expanduser(), limit=KEY_BYTES)
        return (data or b"").decode("ascii", "replace").strip()
    return environment.get(section.key_env, "").strip()


def _check_url(section: CloudProvider) -> None:
    parts = urlsplit(section.url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise ConfigError(
            [f"cloud.providers: {section.name}: a key goes over https alone, not to {section.url!r:.100}"]
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _telling_usage(job: Job, model: str) -> bytes:
    """The body for `model`; of a stream, with the wish to be told what it used."""
    body = rewrite_model(job.body, model) if model != job.facts.model else job.body
    if not job.facts.stream or job.facts.include_usage:
        return body
    asked = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    asked["stream_options"] = msgspec.Raw(b'{"include_usage":true}')
    return msgspec.json.encode(asked)
