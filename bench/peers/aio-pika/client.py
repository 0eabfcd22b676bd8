"""The jobs of bench/peers/README.md with aio-pika and its robust connections."""

import asyncio
import os
import pathlib
import sys
import time

import aio_pika

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import event as peer  # noqa: E402

WINDOW, PREFETCH = 1000, 200


def message(i):
    e = peer.event(peer.order(i))
    return aio_pika.Message(
        peer.encode(e), content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT, type=e["type"],
        app_id=e["source"], message_id=e["id"], timestamp=int(time.time()), headers={"tenant_id": e["tenant_id"]})


async def connect(url):
    return await aio_pika.connect_robust(url, reconnect_interval=0.1)


async def publish(events, url, queue, window, confirms=True):
    clock, warm, sent = peer.Clock(), events // 10, 0
    connection = await connect(url)
    channel = await connection.channel(publisher_confirms=confirms)
    await channel.declare_queue(queue, durable=True)
    exchange = channel.default_exchange

    async def lane(goal):
        nonlocal sent
        while sent < goal:
            sent += 1
            await exchange.publish(message(sent), queue)

    await asyncio.gather(*(lane(warm) for _ in range(window)))
    clock.begin()
    await asyncio.gather(*(lane(warm + events) for _ in range(window)))
    if not confirms:
        await channel.declare_queue(queue, durable=True)
    clock.finish(events)
    await connection.close()


async def consume(events, url, queue):
    clock, warm, seen, total = peer.Clock(), events // 10, 0, 0.0
    connection = await connect(url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    done = asyncio.get_running_loop().create_future()
    if warm == 0:
        clock.begin()

    async def taken(delivery):
        nonlocal seen, total
        total += peer.json.loads(delivery.body)["data"]["total"]
        await delivery.ack()
        seen += 1
        if seen == warm:
            clock.begin()
        if seen == warm + events:
            done.set_result(True)
    source = await channel.declare_queue(queue, durable=True)
    await source.consume(taken)
    await done
    clock.finish(events)
    await connection.close()
    peer.check_total(total, warm + events)


async def latency(events, url, queue):
    clock, warm, sent, waits = peer.Clock(), events // 10, [], []
    sender, receiver = await connect(url), await connect(url)
    out, channel = await sender.channel(), await receiver.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    done, seen = asyncio.get_running_loop().create_future(), 0

    async def taken(delivery):
        nonlocal seen
        peer.json.loads(delivery.body)
        waits.append(time.monotonic() - sent[len(waits)])
        await delivery.ack()
        seen += 1
        if seen == warm + events:
            done.set_result(True)
    source = await channel.declare_queue(queue, durable=True)
    await source.consume(taken)
    clock.begin()
    start, confirms = time.monotonic(), []
    for i in range(warm + events):
        await asyncio.sleep(max(0, start + i / peer.RATE - time.monotonic()))
        sent.append(time.monotonic())
        confirms.append(asyncio.create_task(out.default_exchange.publish(message(i), queue)))
    await done
    await asyncio.gather(*confirms)
    clock.finish(warm + events, peer.percentiles(waits[warm:]))
    await sender.close()
    await receiver.close()


async def topology(events, url, queue):
    clock, connection = peer.Clock(), await connect(url)
    channel = await connection.channel()
    clock.begin()
    await asyncio.gather(*(channel.declare_queue(f"{queue}.{i + 1}", durable=True) for i in range(events)))
    clock.finish(events)
    await connection.close()


async def consumers(events, url, queue):
    connection = await connect(url)

    async def nothing(_):
        pass
    # The connection brings back only what somebody still holds.
    held = []
    for _ in range(events):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        source = await channel.declare_queue(queue, durable=True)
        await source.consume(nothing)
        held.append((channel, source))
    print(f"ready pid={os.getpid()}", flush=True)
    await asyncio.Future()


def runs(job, *args):
    return lambda events, url, queue: asyncio.run(job(events, url, queue, *args))


peer.main({
    "publish": runs(publish, WINDOW), "publish-one": runs(publish, 1), "publish-none": runs(publish, 1, False),
    "consume": runs(consume), "latency": runs(latency), "topology": runs(topology), "consumers": runs(consumers),
})
