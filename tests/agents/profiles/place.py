"""A place with every source of profiles, in a temporary directory, and a clock that only the test moves."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from openhands.sdk import LLM
from openhands.sdk.llm.llm_profile_store import LLMProfileStore
from openhands.sdk.profiles.agent_profile import OpenHandsAgentProfile
from openhands.sdk.profiles.agent_profile_store import AgentProfileStore
from openhands.sdk.utils.cipher import Cipher
from pydantic import SecretStr

from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.settings import Settings


@dataclass
class Place:
    """Where profiles are written and a catalogue of them is opened."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    now: float = 0.0
    concealed: list[set[str]] = field(default_factory=list)

    @classmethod
    def make(cls, root: Path, environ: Mapping[str, str] | None = None) -> Self:
        place = cls(root, dict(environ or {}))
        place.profiles.mkdir()
        return place

    @property
    def profiles(self) -> Path:
        return self.root / "profiles"

    @property
    def data_profiles(self) -> Path:
        return self.root / "data" / "profiles"

    @property
    def openhands(self) -> Path:
        return self.root / "openhands"

    def write(self, name: str, text: str, *, directory: Path | None = None) -> Path:
        path = (directory or self.profiles) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    def save_llm(self, name: str, *, cipher_key: str | None = None, **fields: Any) -> Path:
        """Save an LLM profile with OpenHands' own store."""
        given: dict[str, Any] = {"model": "openai/gpt-4o", "api_key": SecretStr("sk-saved"), **fields}
        store = LLMProfileStore(self.openhands / "profiles")
        store.save(name, LLM(**given), include_secrets=True, cipher=Cipher(cipher_key) if cipher_key else None)
        return self.openhands / "profiles" / f"{name}.json"

    def save_agent(self, name: str, **fields: Any) -> Path:
        """Save an Agent Profile with OpenHands' own store."""
        given: dict[str, Any] = {"llm_profile_ref": "fast", **fields}
        AgentProfileStore(self.openhands / "agent-profiles").save(OpenHandsAgentProfile(name=name, **given))
        return self.openhands / "agent-profiles" / f"{name}.json"

    def open(self, environ: Mapping[str, str] | None = None, **settings: Any) -> ProfileCatalog:
        read = LLMEnvironment.read({"OH_PERSISTENCE_DIR": str(self.openhands), **self.environ, **(environ or {})})
        chosen = Settings(profiles=(self.profiles,), data_dir=self.root / "data", **settings)
        return ProfileCatalog(chosen, read, clock=lambda: self.now, conceal=lambda names: self.concealed.append(set(names)))

    def later(self) -> None:
        """Let the time pass after which a catalogue looks at the files again."""
        self.now += 1.0
