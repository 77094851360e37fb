"""One small class for each kind of engine that says more of itself than an OpenAI-compatible server must."""

from meshnode.engine.adapters.llama_server import LlamaServer
from meshnode.engine.adapters.lm_studio import LmStudio
from meshnode.engine.adapters.ollama import Ollama
from meshnode.engine.adapters.vllm import Vllm

__all__ = ["LlamaServer", "LmStudio", "Ollama", "Vllm"]
