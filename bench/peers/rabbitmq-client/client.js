// client: the jobs of bench/peers/README.md with rabbitmq-client: its publishers and consumers, which encode and decode JSON.
'use strict'

const { Connection } = require('rabbitmq-client')
const { order, event, begin, finish, paced, main } = require('../event.js')

const WINDOW = 1000, PREFETCH = 200

function send(publisher, queue, i) {
  const e = event(order(i))
  return publisher.send({
    routingKey: queue, durable: true, type: e.type, appId: e.source, messageId: e.id,
    timestamp: Math.floor(Date.now() / 1000), headers: { tenant_id: e.tenant_id },
  }, e)
}

function open(url) {
  const connection = new Connection({ url, retryLow: 100, retryHigh: 100, maxChannels: 2047 })
  connection.on('error', () => {})
  return connection
}

async function publish(events, url, queue, window) {
  const connection = open(url)
  await connection.queueDeclare({ queue, durable: true })
  const publisher = connection.createPublisher({ confirm: true })
  const warm = Math.floor(events / 10)
  let sent = 0
  const until = async (goal) => {
    const lane = async () => { while (sent < goal) await send(publisher, queue, ++sent) }
    await Promise.all(Array.from({ length: window }, lane))
  }
  await until(warm)
  begin()
  await until(warm + events)
  finish(events)
  await publisher.close()
  await connection.close()
}

main({
  publish: (events, url, queue) => publish(events, url, queue, WINDOW),
  'publish-one': (events, url, queue) => publish(events, url, queue, 1),

  async 'publish-none'(events, url, queue) {
    const connection = open(url)
    await connection.queueDeclare({ queue, durable: true })
    const publisher = connection.createPublisher({ confirm: false })
    const warm = Math.floor(events / 10)
    for (let i = 1; i <= warm + events; i++) {
      if (i === warm + 1) begin()
      await send(publisher, queue, i)
    }
    await connection.queueDeclare({ queue, durable: true })
    finish(events)
    await publisher.close()
    await connection.close()
  },

  async consume(events, url, queue) {
    const connection = open(url)
    await connection.queueDeclare({ queue, durable: true })
    const warm = Math.floor(events / 10)
    let seen = 0, total = 0, consumer
    if (warm === 0) begin()
    await new Promise((resolve) => {
      consumer = connection.createConsumer({ queue, queueOptions: { durable: true }, qos: { prefetchCount: PREFETCH } }, async (message) => {
        total += message.body.data.total
        seen++
        if (seen === warm) begin()
        if (seen === warm + events) resolve()
      })
      consumer.on('error', (err) => { console.error(err.message) })
    })
    finish(events)
    await consumer.close()
    await connection.close()
    if (total !== 1000 * seen) throw new Error('the totals do not add up')
  },

  async latency(events, url, queue) {
    const sender = open(url), receiver = open(url)
    await receiver.queueDeclare({ queue, durable: true })
    const publisher = sender.createPublisher({ confirm: true })
    let pace
    const consumer = receiver.createConsumer({ queue, queueOptions: { durable: true }, qos: { prefetchCount: PREFETCH } }, async () => { pace.taken() })
    consumer.on('error', (err) => { console.error(err.message) })
    await new Promise((resolve) => consumer.once('ready', resolve))
    const confirms = []
    pace = paced(events, (i) => confirms.push(send(publisher, queue, i)))
    await pace.finished
    await Promise.all(confirms)
    pace.report()
    await consumer.close()
    await publisher.close()
    await sender.close()
    await receiver.close()
  },

  async topology(events, url, queue) {
    const connection = open(url)
    await connection.onConnect()
    begin()
    const all = []
    for (let i = 1; i <= events; i++) all.push(connection.queueDeclare({ queue: `${queue}.${i}`, durable: true }))
    await Promise.all(all)
    finish(events)
    await connection.close()
  },

  async consumers(events, url, queue) {
    const connection = open(url)
    await connection.queueDeclare({ queue, durable: true })
    await Promise.all(Array.from({ length: events }, () => new Promise((resolve) => {
      const consumer = connection.createConsumer({ queue, queueOptions: { durable: true }, qos: { prefetchCount: 1 } }, async () => {})
      consumer.on('error', (err) => { console.error(err.message) })
      consumer.once('ready', resolve)
    })))
    console.log(`ready pid=${process.pid}`)
  },
})
