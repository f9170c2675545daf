"""The job that does nothing, on Celery with Redis; runs in `.rivals`.

`celery -A celery_job worker` serves it; `python celery_job.py COUNT` submits so many, waits for their
results and prints jobs per second. RIVAL_REDIS is the server.
"""
# mypy: disable-error-code="import-not-found,untyped-decorator,no-any-return"

import os
import sys
import time

from celery import Celery

SERVER = os.environ["RIVAL_REDIS"]
app = Celery("jobs", broker=f"{SERVER}/0", backend=f"{SERVER}/1")
app.conf.update(task_ignore_result=False, worker_send_task_events=False)


@app.task
def nothing(number: int) -> int:
    return number


def jobs_per_s(count: int) -> float:
    kept = app.backend.client
    kept.flushdb()
    started = time.perf_counter()
    for number in range(count):
        nothing.apply_async((number,))
    while kept.dbsize() < count:
        time.sleep(0.02)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        print(f"{jobs_per_s(int(word)):.0f}", flush=True)
