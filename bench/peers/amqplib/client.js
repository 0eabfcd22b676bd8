// client: the jobs of bench/peers/README.md with amqplib, its promises and its confirm channels.
'use strict'

const amqplib = require('amqplib')
const { order, event, begin, finish, paced, main } = require('../event.js')

const WINDOW = 1000, PREFETCH = 200

function send(channel, queue, i, confirmed) {
  const e = event(order(i))
  return channel.publish('', queue, Buffer.from(JSON.stringify(e)), {
    contentType: 'application/json', persistent: true, type: e.type, appId: e.source, messageId: e.id,
    timestamp: Math.floor(Date.now() / 1000), headers: { tenant_id: e.tenant_id },
  }, confirmed)
}

async function publish(events, url, queue, window) {
  const connection = await amqplib.connect(url)
  const channel = await connection.createConfirmChannel()
  await channel.assertQueue(queue)
  const warm = Math.floor(events / 10)
  let sent = 0, confirmed = 0
  const until = (goal) => new Promise((resolve, reject) => {
    const go = () => {
      while (sent < goal && sent - confirmed < window) send(channel, queue, ++sent, answered)
    }
    const answered = (err) => {
      if (err) return reject(err)
      confirmed++
      if (confirmed === goal) resolve()
      else go()
    }
    if (goal === confirmed) resolve()
    else go()
  })
  await until(warm)
  begin()
  await until(warm + events)
  finish(events)
  await connection.close()
}

main({
  publish: (events, url, queue) => publish(events, url, queue, WINDOW),
  'publish-one': (events, url, queue) => publish(events, url, queue, 1),

  async 'publish-none'(events, url, queue) {
    const connection = await amqplib.connect(url)
    const channel = await connection.createChannel()
    await channel.assertQueue(queue)
    const warm = Math.floor(events / 10)
    for (let i = 1; i <= warm + events; i++) {
      if (i === warm + 1) begin()
      // Without confirms, the full buffer is what says that one has to wait.
      if (!send(channel, queue, i)) await new Promise((resolve) => channel.once('drain', resolve))
    }
    await channel.assertQueue(queue)
    finish(events)
    await connection.close()
  },

  async consume(events, url, queue) {
    const connection = await amqplib.connect(url)
    const channel = await connection.createChannel()
    await channel.assertQueue(queue)
    await channel.prefetch(PREFETCH)
    const warm = Math.floor(events / 10)
    let seen = 0, total = 0
    if (warm === 0) begin()
    await new Promise((resolve, reject) => {
      channel.consume(queue, (message) => {
        total += JSON.parse(message.content).data.total
        channel.ack(message)
        seen++
        if (seen === warm) begin()
        if (seen === warm + events) resolve()
      }).catch(reject)
    })
    finish(events)
    // The close of the connection overtakes acks that still wait in the channel.
    await channel.close()
    await connection.close()
    if (total !== 1000 * seen) throw new Error('the totals do not add up')
  },

  async latency(events, url, queue) {
    const sender = await amqplib.connect(url), receiver = await amqplib.connect(url)
    const out = await sender.createConfirmChannel(), channel = await receiver.createChannel()
    await channel.assertQueue(queue)
    await channel.prefetch(PREFETCH)
    let pace
    await channel.consume(queue, (message) => {
      JSON.parse(message.content)
      pace.taken()
      channel.ack(message)
    })
    pace = paced(events, (i) => send(out, queue, i, (err) => { if (err) throw err }))
    await pace.finished
    await out.waitForConfirms()
    pace.report()
    await sender.close()
    await receiver.close()
  },

  async topology(events, url, queue) {
    const connection = await amqplib.connect(url)
    const channel = await connection.createChannel()
    begin()
    const all = []
    for (let i = 1; i <= events; i++) all.push(channel.assertQueue(`${queue}.${i}`))
    await Promise.all(all)
    finish(events)
    await connection.close()
  },

  async consumers(events, url, queue) {
    let ready
    const first = new Promise((resolve) => { ready = resolve })
    const connection = await amqplib.connect(url, {
      recovery: {
        initialDelay: 100, maxDelay: 100, jitter: 0, maxRetries: Infinity,
        async setup(model) {
          const open = async () => {
            const channel = await model.createChannel()
            await channel.prefetch(1)
            await channel.consume(queue, () => {})
          }
          const channel = await model.createChannel()
          await channel.assertQueue(queue)
          await Promise.all(Array.from({ length: events }, open))
          ready()
        },
      },
    })
    connection.on('error', () => {})
    await first
    console.log(`ready pid=${process.pid}`)
  },
})
