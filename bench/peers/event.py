"""What the Python clients share: the event, the clocks and the line that is printed (bench/peers/README.md)."""

import json
import math
import resource
import sys
import time
import uuid
from datetime import datetime, timezone

RATE = 500
SIZES = {"small": 1, "10k": 144, "1m": 15000}


def order(i, items=1):
    return {
        "order_id": "order_xyz", "order_number": "ORD-2024-001", "customer_id": "cust_123",
        "items": [{"product_id": "prod_456", "sku": "SKU001", "quantity": i % 5 + 1, "price": 500.00}
                  for _ in range(items)],
        "total": 1000.00, "currency": "UAH", "status": "pending",
    }


def event(data):
    return {
        "id": "evt_" + str(uuid.uuid4()), "type": "order.created", "source": "oms-service",
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "tenant_id": "tenant_abc", "data": data,
    }


def encode(e):
    return json.dumps(e, separators=(",", ":")).encode()


def cpu():
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


class Clock:
    """Starts when the warm-up is over; finish prints what has been spent since."""

    def begin(self):
        self.wall, self.cpu = time.monotonic(), cpu()

    def finish(self, events, more=""):
        seconds, spent = time.monotonic() - self.wall, cpu() - self.cpu
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"events={events} seconds={seconds:.6f} cpu={spent:.6f} rss_kb={rss}{more}", flush=True)


def percentiles(waits):
    waits = sorted(waits)

    def at(p):
        return waits[math.ceil(len(waits) * p) - 1] * 1e6
    return f" p50_us={at(0.5):.0f} p99_us={at(0.99):.0f} p999_us={at(0.999):.0f}"


def check_total(total, events):
    if total != 1000 * events:
        sys.exit("the totals do not add up")


def json_job(job, events):
    what, _, size = job.partition("-")
    if what not in ("encode", "decode") or size not in SIZES:
        return False
    clock, e, warm = Clock(), event(order(1, SIZES[size])), events // 10
    text = encode(e)
    for i in range(warm + events):
        if i == warm:
            clock.begin()
        if what == "encode":
            encode(e)
        else:
            json.loads(text)
    clock.finish(events, f" bytes={len(text)}")
    return True


def main(jobs):
    if len(sys.argv) != 5:
        sys.exit("usage: client JOB EVENTS URL QUEUE")
    job, events, url, queue = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    if json_job(job, events):
        return
    if job not in jobs:
        sys.exit("no such job: " + job)
    jobs[job](events, url, queue)
