"""`vllm` where no GPU is: programs that speak its HTTP, found on PATH as it would be."""

import sys
from pathlib import Path

import pytest

_HANDLER = """\
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self): self.answer({})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer({"choices": [{"text": "x", "finish_reason": "length"}]})
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
"""
# Health, models, completions, and nothing else of vLLM.
ONE_HOST = f"""#!{sys.executable}
{_HANDLER}
port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
# Strict about its arguments. Its ranks meet at --master-addr:--master-port as vLLM's do; the head serves
# once all are there. Real vLLM is asked the same by `make test-vllm`.
SEVERAL_HOSTS = f"""#!{sys.executable}
{_HANDLER}
import argparse, os, socket, time
parser = argparse.ArgumentParser()
parser.add_argument("serve", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--served-model-name", nargs="+", required=True)
parser.add_argument("--host", required=True)
for flag in ("port", "tensor-parallel-size", "pipeline-parallel-size", "max-model-len", "max-num-seqs",
             "max-num-batched-tokens", "shutdown-timeout", "nnodes", "node-rank", "master-port"):
    parser.add_argument("--" + flag, type=int, required=True)
parser.add_argument("--gpu-memory-utilization", type=float)
parser.add_argument("--dtype")
parser.add_argument("--master-addr", required=True)
parser.add_argument("--headless", action="store_true")
args = parser.parse_args()
cards = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
assert len(cards) * args.nnodes == args.tensor_parallel_size * args.pipeline_parallel_size, cards
assert os.environ["VLLM_HOST_IP"] == "127.0.0.1"
assert args.headless == (args.node_rank > 0)
if args.headless:
    for _try in range(200):
        try:
            held = socket.create_connection((args.master_addr, args.master_port))
            break
        except OSError:
            time.sleep(0.05)
    time.sleep(3600)  # as vLLM's, it stays when its head has gone
meeting = socket.create_server(("127.0.0.1", args.master_port))
ranks = [meeting.accept() for _rank in range(args.nnodes - 1)]
ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()
"""


def put_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str = ONE_HOST) -> None:
    """`program` as `vllm` in `folder`, which becomes the whole PATH."""
    binary = folder / "vllm"
    folder.mkdir(parents=True)
    binary.write_text(program)
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
