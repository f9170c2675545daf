"""A stand-in for llama-throughput-lab's sweep: its variables, its CSV and its words, but no engine.

`LLAMA_MODEL_PATH` says how it goes: `…slow…` takes its time between rows, `…broken…` fails as the sweep does
when no server starts, `…dies…` ends without a row. A child sleeps beside it, as the engines and nginx do.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HEADER = "instances,parallel,batch,ubatch,concurrency,throughput_tps,total_tokens,elapsed_s,errors"


def main() -> int:
    given = os.environ
    model = given["LLAMA_MODEL_PATH"]
    assert Path(given["LLAMA_SERVER_BIN"]).is_file()
    assert Path(model).is_file()
    assert "LLAMA_UBATCH_LIST" not in given
    words, predict = len(given["LLAMA_PROMPT"].split()), int(given["LLAMA_N_PREDICT"])
    assert int(given["LLAMA_CTXSIZE_PER_SESSION"]) >= words + predict
    if "dies" in model:
        print("FileNotFoundError: nginx binary not found", file=sys.stderr)
        return 1
    concurrencies = [int(part) for part in given["LLAMA_CONCURRENCY_LIST"].split(",")]
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "lab-engine"])
    folder = Path(given["LLAMA_RESULTS_DIR"]) / "full_sweep"
    folder.mkdir(parents=True)
    with (folder / "full_sweep_20261101_120000.csv").open("w", newline="", encoding="utf-8") as file:
        print(f"results_file={file.name}")
        file.write(HEADER + "\r\n")
        for number, concurrency in enumerate(concurrencies, 1):
            requests = concurrency * int(given["LLAMA_REQUESTS_MULTIPLIER"])
            if number > 1 and "slow" in model:
                time.sleep(60)
            row = f"{float(10 * concurrency)},{requests * predict},2.00,0"
            if "broken" in model:
                print(
                    f"error instances=1: Port {given['LLAMA_NGINX_PORT']} did not become ready",
                    file=sys.stderr,
                )
                row = f"0.0,0,0.00,{requests}"
            file.write(f"1,{given['LLAMA_PARALLEL_LIST']},default,default,{concurrency},{row}\r\n")
            file.flush()
            print(
                f"progress {number}/{len(concurrencies)} (1.0%) elapsed=1s last=x",
                file=sys.stderr,
                flush=True,
            )
    child.terminate()
    child.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
