# SPDX-License-Identifier: Apache-2.0
"""A gRPC client that knows nothing of Evenkeel: calls the testbed's method at a steady rate and counts who answered.

Every 50 ms, and at its end, it prints one JSON object with all counts since its start. It ends on SIGTERM.
The target may be xds:///NAME: gRPC then balances by itself, by what the xDS server of GRPC_XDS_BOOTSTRAP_CONFIG says.

What must always be true: every call is counted once, as answered or as failed. A call is tried once: gRPC itself sends
again only what no server has seen (gRFC A6, transparent retries). Deliberately not here: generated code.
"""

import argparse
import collections
import json
import signal
import threading
import time

import grpc

METHOD = "/evenkeel.demo.Echo/Call"
PERIOD_S = 0.05
TIMEOUT_S = 10


def reply_fields(body):
    """Reply { string pod = 1; string zone = 2; string peer = 3; }; every length fits one byte here."""
    fields, at = {}, 0
    while at < len(body):
        number, length = body[at] >> 3, body[at + 1]
        if length >= 0x80:
            raise ValueError("a field of more than 127 bytes")
        fields[number] = body[at + 2 : at + 2 + length].decode()
        at += 2 + length
    return fields


class Counts:
    """Who answered how often, and what failed; shared by all threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.pods = collections.Counter()
        self.zones = collections.Counter()
        self.failures = collections.Counter()

    def answered(self, fields):
        with self.lock:
            self.pods[fields[1]] += 1
            self.zones[fields[2]] += 1

    def failed(self, error):
        with self.lock:
            self.failures[f"{error.code().name}: {error.details()}"] += 1

    def show(self):
        with self.lock:
            counts = {"pods": self.pods, "zones": self.zones, "failures": self.failures}
            print(json.dumps(counts), flush=True)


def call_until(ended, call, counts, interval):
    due = time.monotonic()
    while not ended.is_set():
        try:
            counts.answered(reply_fields(call(b"", timeout=TIMEOUT_S)))
        except grpc.RpcError as error:
            counts.failed(error)
        # At most a second of what could not be done in time is caught up with.
        due = max(due + interval, time.monotonic() - 1)
        ended.wait(max(0, due - time.monotonic()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--authority", help="the host that is asked for, if it is not the target")
    parser.add_argument("--rate", type=float, required=True, help="calls per second")
    parser.add_argument("--threads", type=int, required=True, help="calls at a time")
    args = parser.parse_args()

    # Taken where it is waited for: a handler that sets an event could interrupt the thread that holds the event's lock.
    # Before any thread starts, so that all inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    options = [("grpc.default_authority", args.authority)] if args.authority else []
    call = grpc.insecure_channel(args.target, options=options).unary_unary(METHOD)
    counts, ended = Counts(), threading.Event()
    work = (ended, call, counts, args.threads / args.rate)
    threads = [threading.Thread(target=call_until, args=work) for _ in range(args.threads)]
    for thread in threads:
        thread.start()
    while signal.sigtimedwait([signal.SIGTERM], PERIOD_S) is None:
        counts.show()
    ended.set()
    for thread in threads:
        thread.join()
    counts.show()


if __name__ == "__main__":
    main()
