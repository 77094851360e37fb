"""A node inside a program: start it, ask once, ask again and read the answer as it comes.

    pip install 'meshnode[embedded]'
    python examples/ask_two_ways.py

Needs nothing else: where no engine runs on this machine, the embedded one answers. Beside a node that runs already,
`--home DIR` gives this one a folder of its own for keys and model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trio

import meshnode


async def main(home: Path | None) -> None:
    # Port 0: any free one. A program that only asks needs no fixed address, and no listener for other nodes.
    config = meshnode.load(flags={"front": {"api": "127.0.0.1:0"}, "mesh": {"listen": "none"}})
    async with meshnode.Node(config, home=home) as node:
        await node.engines_settled()
        models = node.models()
        if not models:
            print("nobody here serves a model:", [engine["detail"] for engine in node.status()["engines"]])
            return
        model = models[0]
        print(f"{node.name} knows {', '.join(models)}; asking {model}\n")

        reply = await node.chat(model, "Name three rivers.", max_tokens=40)
        print(f"{reply.text}\n\n  {dict(reply.usage)}, answered by {reply.route['node']}\n")

        async with node.stream(model, "Count to five.", max_tokens=40) as chunks:
            async for text in chunks:
                print(text, end="", flush=True)
        print(f"\n\n  ended with {chunks.finish_reason!r}, because: {chunks.route['reason']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ask a model through a node in this program.")
    parser.add_argument("--home", type=Path)
    try:
        trio.run(main, parser.parse_args().home)
    except meshnode.errors.MeshnodeError as error:
        raise SystemExit(f"{error}") from error
