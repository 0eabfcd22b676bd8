"""The jobs of bench/peers/README.md with pika: BlockingConnection, which has no confirms without waiting for each, and
SelectConnection where a thousand are to be outstanding. pika does not reconnect: there is no job `consumers`."""

import array
import os
import pathlib
import sys
import time

import pika

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import event as peer  # noqa: E402

WINDOW, PREFETCH = 1000, 200


def message(i):
    e = peer.event(peer.order(i))
    properties = pika.BasicProperties(
        content_type="application/json", delivery_mode=2, type=e["type"], app_id=e["source"], message_id=e["id"],
        timestamp=int(time.time()), headers={"tenant_id": e["tenant_id"]})
    return peer.encode(e), properties


def open_channel(url, queue=None):
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    if queue:
        channel.queue_declare(queue, durable=True)
    return channel


def send(channel, queue, i):
    body, properties = message(i)
    channel.basic_publish("", queue, body, properties)


def publish(events, url, queue):
    clock, warm = peer.Clock(), events // 10
    goal, sent, settled, contiguous = warm, 0, set(), 0

    def go():
        nonlocal goal, sent
        if contiguous + len(settled) == goal:
            if goal == warm + events:
                clock.finish(events)
                connection.close()
                return
            goal = warm + events
            clock.begin()
        while sent < goal and sent - contiguous - len(settled) < WINDOW:
            sent += 1
            send(channel, queue, sent)

    def answered(frame):
        nonlocal contiguous
        tag = frame.method.delivery_tag
        if frame.method.NAME != "Basic.Ack":
            sys.exit("not confirmed")
        if frame.method.multiple:
            settled.difference_update(range(contiguous + 1, tag + 1))
            contiguous = max(contiguous, tag)
        else:
            settled.add(tag)
        while contiguous + 1 in settled:
            contiguous += 1
            settled.remove(contiguous)
        go()

    def opened(new):
        nonlocal channel
        channel = new
        channel.queue_declare(queue, durable=True, callback=lambda _: channel.confirm_delivery(
            answered, callback=lambda _: go()))

    channel = None
    connection = pika.SelectConnection(
        pika.URLParameters(url), on_open_callback=lambda c: c.channel(on_open_callback=opened),
        on_close_callback=lambda c, _: c.ioloop.stop())
    connection.ioloop.start()


def publish_one(events, url, queue):
    clock, warm = peer.Clock(), events // 10
    channel = open_channel(url, queue)
    channel.confirm_delivery()
    for i in range(warm + events):
        if i == warm:
            clock.begin()
        send(channel, queue, i)
    clock.finish(events)


def publish_none(events, url, queue):
    clock, warm = peer.Clock(), events // 10
    channel = open_channel(url, queue)
    for i in range(warm + events):
        if i == warm:
            clock.begin()
        send(channel, queue, i)
    channel.queue_declare(queue, durable=True)
    clock.finish(events)


def consume(events, url, queue):
    clock, warm, total, seen = peer.Clock(), events // 10, 0.0, 0
    channel = open_channel(url, queue)
    channel.basic_qos(prefetch_count=PREFETCH)
    if warm == 0:
        clock.begin()

    def taken(_, method, __, body):
        nonlocal seen, total
        total += peer.json.loads(body)["data"]["total"]
        channel.basic_ack(method.delivery_tag)
        seen += 1
        if seen == warm:
            clock.begin()
        if seen == warm + events:
            channel.stop_consuming()
    channel.basic_consume(queue, taken)
    channel.start_consuming()
    clock.finish(events)
    peer.check_total(total, warm + events)


def send_at_rate(events, channel, queue, out):
    sent, start = array.array("d"), time.monotonic()
    for i in range(events):
        channel.connection.sleep(max(0, start + i / peer.RATE - time.monotonic()))
        sent.append(time.monotonic())
        send(channel, queue, i)
    channel.connection.process_data_events(0)
    with os.fdopen(out, "wb") as pipe:
        sent.tofile(pipe)


def latency(events, url, queue):
    clock, warm = peer.Clock(), events // 10
    everything, taken = warm + events, array.array("d")
    source, out = os.pipe()
    channel, sender = open_channel(url, queue), open_channel(url)
    channel.basic_qos(prefetch_count=PREFETCH)
    clock.begin()
    child = os.fork()
    if child == 0:
        os.close(source)
        send_at_rate(everything, sender, queue, out)
        os._exit(0)
    os.close(out)

    def on_message(_, method, __, body):
        peer.json.loads(body)
        taken.append(time.monotonic())
        channel.basic_ack(method.delivery_tag)
        if len(taken) == everything:
            channel.stop_consuming()
    channel.basic_consume(queue, on_message)
    channel.start_consuming()
    sent = array.array("d")
    with os.fdopen(source, "rb") as pipe:
        sent.frombytes(pipe.read())
    os.waitpid(child, 0)
    clock.finish(everything, peer.percentiles([t - s for s, t in zip(sent, taken)][warm:]))


def topology(events, url, queue):
    clock, channel = peer.Clock(), open_channel(url)
    clock.begin()
    for i in range(events):
        channel.queue_declare(f"{queue}.{i + 1}", durable=True)
    clock.finish(events)


peer.main({
    "publish": publish, "publish-one": publish_one, "publish-none": publish_none, "consume": consume,
    "latency": latency, "topology": topology,
})
