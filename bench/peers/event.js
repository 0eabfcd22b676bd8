// What the node clients share: the event, the clocks and the line that is printed (bench/peers/README.md).
'use strict'

const { randomUUID } = require('node:crypto')
const { performance } = require('node:perf_hooks')

const RATE = 500

function order(i, items = 1) {
  const list = []
  for (let n = 0; n < items; n++) list.push({ product_id: 'prod_456', sku: 'SKU001', quantity: (i % 5) + 1, price: 500.0 })
  return {
    order_id: 'order_xyz', order_number: 'ORD-2024-001', customer_id: 'cust_123', items: list,
    total: 1000.0, currency: 'UAH', status: 'pending',
  }
}

function event(data) {
  return {
    id: 'evt_' + randomUUID(), type: 'order.created', source: 'oms-service', timestamp: new Date().toISOString(),
    tenant_id: 'tenant_abc', data,
  }
}

let wall, cpu
function begin() {
  wall = performance.now()
  cpu = process.cpuUsage()
}

function finish(events, more = '') {
  const seconds = (performance.now() - wall) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const rss = process.resourceUsage().maxRSS
  console.log(`events=${events} seconds=${seconds.toFixed(6)} cpu=${((user + system) / 1e6).toFixed(6)} rss_kb=${rss}${more}`)
}

// Calls send(i) at the rate and notes when; taken() is to be called for each event that arrives, in order.
function paced(events, send) {
  const warm = Math.floor(events / 10)
  const sent = [], waits = []
  let done
  const finished = new Promise((resolve) => { done = resolve })
  let seen = 0
  begin()
  const start = performance.now()
  const tick = () => {
    while (sent.length < warm + events && performance.now() >= start + (sent.length * 1000) / RATE) {
      sent.push(performance.now())
      send(sent.length)
    }
    if (sent.length < warm + events) setTimeout(tick, 1)
  }
  tick()
  const taken = () => {
    if (++seen > warm) waits.push(performance.now() - sent[seen - 1])
    if (seen === warm + events) done()
  }
  const report = () => {
    waits.sort((a, b) => a - b)
    const at = (p) => (waits[Math.ceil(waits.length * p) - 1] * 1000).toFixed(0)
    finish(warm + events, ` p50_us=${at(0.5)} p99_us=${at(0.99)} p999_us=${at(0.999)}`)
  }
  return { taken, finished, report }
}

// The JSON jobs: no client has a part in them.
const SIZES = { small: 1, '10k': 144, '1m': 15000 }
function json(job, events) {
  const [, what, size] = job.match(/^(encode|decode)-(.*)$/) || []
  if (!what) return false
  const e = event(order(1, SIZES[size])), text = JSON.stringify(e), warm = Math.floor(events / 10)
  for (let i = 1; i <= warm + events; i++) {
    if (i === warm + 1) begin()
    if (what === 'encode') Buffer.from(JSON.stringify(e))
    else JSON.parse(text)
  }
  finish(events, ` bytes=${Buffer.byteLength(text)}`)
  return true
}

function main(jobs) {
  const [job, count, url, queue] = process.argv.slice(2)
  if (!queue) {
    console.error('usage: client JOB EVENTS URL QUEUE')
    process.exit(2)
  }
  if (json(job, Number(count))) return
  if (!jobs[job]) {
    console.error('no such job: ' + job)
    process.exit(3)
  }
  jobs[job](Number(count), url, queue).catch((err) => {
    console.error(err)
    process.exit(1)
  })
}

module.exports = { order, event, begin, finish, paced, main }
