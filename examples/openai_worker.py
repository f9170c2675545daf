"""An OpenAI-compatible server as a node: OPENAI_URL=http://127.0.0.1:8000/v1 python openai_worker.py"""

import asyncio
import os

from compute_node import Worker
from compute_node.openai import OpenAIServer

server = OpenAIServer(os.environ["OPENAI_URL"], model=os.environ.get("OPENAI_MODEL"))
worker = Worker(os.environ.get("NODE_ID", "openai-worker"), concurrency=8, announce=True)
worker.handles("inference")(server.inference)
worker.handles("embedding")(server.embedding)
asyncio.run(worker.run())
