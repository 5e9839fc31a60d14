"""Sleeps as long as the request says and tells what it saw: its own process, and
how many requests were at this instance at once, those that no worker has taken
from the listening socket included."""

import json
import multiprocessing
import os
import time

import uwsgi

busy = multiprocessing.Value("i", 0)


def application(environ, start_response):
    with busy.get_lock():
        busy.value += 1
        here = busy.value + uwsgi.listen_queue()
    length = int(environ.get("CONTENT_LENGTH") or 0)
    order = json.loads(environ["wsgi.input"].read(length))
    time.sleep(order["ms"] / 1000)
    with busy.get_lock():
        busy.value -= 1
    answer = {"id": order["id"], "worker": os.getpid(), "here": here}
    body = json.dumps(answer).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
