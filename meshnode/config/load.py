"""Reads `config.toml`, the environment and flags into one frozen Config, reporting every fault at once.

Later wins: defaults, file, `MESHNODE_SECTION__KEY`, flags. Each value's origin is kept for `config show`.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from meshnode.config.cloud import CloudSection
from meshnode.config.dispatch import DispatchSection
from meshnode.config.engine import EngineSection
from meshnode.config.front import FrontSection
from meshnode.config.gossip import GossipSection
from meshnode.config.mesh import MeshSection
from meshnode.config.node import NodeSection
from meshnode.config.routing import RoutingSection
from meshnode.config.sharing import SharingSection
from meshnode.config.trust import TrustSection
from meshnode.errors import ConfigError

ENVIRONMENT_PREFIX = "MESHNODE_"


@dataclass(frozen=True, slots=True)
class Config:
    """Every section. `origins` maps `section.key` to where its value came from, defaults left out."""

    node: NodeSection = field(default_factory=NodeSection)
    front: FrontSection = field(default_factory=FrontSection)
    mesh: MeshSection = field(default_factory=MeshSection)
    gossip: GossipSection = field(default_factory=GossipSection)
    engine: EngineSection = field(default_factory=EngineSection)
    dispatch: DispatchSection = field(default_factory=DispatchSection)
    routing: RoutingSection = field(default_factory=RoutingSection)
    cloud: CloudSection = field(default_factory=CloudSection)
    trust: TrustSection = field(default_factory=TrustSection)
    sharing: SharingSection = field(default_factory=SharingSection)
    origins: Mapping[str, str] = field(default_factory=dict)


SECTIONS: Mapping[str, type[Any]] = types.MappingProxyType(
    {
        "node": NodeSection,
        "front": FrontSection,
        "mesh": MeshSection,
        "gossip": GossipSection,
        "engine": EngineSection,
        "dispatch": DispatchSection,
        "routing": RoutingSection,
        "cloud": CloudSection,
        "trust": TrustSection,
        "sharing": SharingSection,
    }
)


@dataclass(frozen=True, slots=True)
class _Setting:
    value: Any
    origin: str


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Build a Config. A missing file is an empty one. Raises ConfigError with every fault found."""
    faults: list[str] = []
    settings: dict[tuple[str, str], _Setting] = {}
    for source in (_from_file(file, faults), _from_environment(environment or {}, faults), _from_flags(flags or {})):
        settings.update(source)
    known = {name: get_type_hints(section, include_extras=True) for name, section in SECTIONS.items()}
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for (section, key), setting in settings.items():
        kind = known.get(section, {}).get(key)
        if kind is None:
            faults.append(f"{setting.origin}: there is no setting {section}.{key}")
            continue
        try:
            values[section][key] = msgspec.convert(setting.value, kind, strict=not isinstance(setting.value, str))
        except msgspec.ValidationError as error:
            faults.append(f"{setting.origin}: {section}.{key}: {_in_words(str(error), kind)}")
    if faults:
        raise ConfigError(faults)
    origins = {f"{section}.{key}": setting.origin for (section, key), setting in settings.items()}
    return Config(**{name: SECTIONS[name](**given) for name, given in values.items()}, origins=origins)


def _from_file(file: Path | None, faults: list[str]) -> dict[tuple[str, str], _Setting]:
    if file is None:
        return {}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(f"{file}: {error}")
        return {}
    found: dict[tuple[str, str], _Setting] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            faults.append(f"{file}: {section} is not a section")
            continue
        for key, value in table.items():
            found[section, key] = _Setting(value, str(file))
    return found


def _from_environment(environment: Mapping[str, str], faults: list[str]) -> dict[tuple[str, str], _Setting]:
    found: dict[tuple[str, str], _Setting] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or "__" not in name:
            continue
        section, _, key = name[len(ENVIRONMENT_PREFIX) :].lower().partition("__")
        kind = SECTIONS.get(section)
        is_list = kind is not None and any(f.name == key and str(f.type).startswith("tuple") for f in fields(kind))
        value: Any = tuple(part.strip() for part in text.split(",") if part.strip()) if is_list else text
        found[section, key] = _Setting(value, name)
    return found


def _from_flags(flags: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], _Setting]:
    return {
        (section, key): _Setting(value, "command line")
        for section, table in flags.items()
        for key, value in table.items()
    }


def _in_words(problem: str, kind: Any) -> str:
    """The fault with what a pattern of `kind` stands for, instead of the pattern."""
    for one in get_args(kind):
        if isinstance(one, msgspec.Meta) and one.pattern and one.description:
            problem = problem.replace(f"`str` matching regex '{one.pattern}'", one.description)
        else:
            problem = _in_words(problem, one)
    return problem
