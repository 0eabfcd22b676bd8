# The jobs of bench/peers/README.md with Bunny.

require "bunny"
require "json"
require "securerandom"
require "time"

RATE = 500
WINDOW = 1000
PREFETCH = 200
SIZES = { "small" => 1, "10k" => 144, "1m" => 15_000 }.freeze

def order(i, items = 1)
  list = Array.new(items) { { product_id: "prod_456", sku: "SKU001", quantity: i % 5 + 1, price: 500.00 } }
  { order_id: "order_xyz", order_number: "ORD-2024-001", customer_id: "cust_123", items: list,
    total: 1000.00, currency: "UAH", status: "pending" }
end

def event(data)
  { id: "evt_#{SecureRandom.uuid}", type: "order.created", source: "oms-service",
    timestamp: Time.now.utc.iso8601(3), tenant_id: "tenant_abc", data: data }
end

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)

def start
  $wall = now
  $cpu = cpu
end

def finish(events, more = "")
  seconds = now - $wall
  spent = cpu - $cpu
  rss = File.read("/proc/self/status")[/VmHWM:\s*(\d+)/, 1]
  puts format("events=%d seconds=%.6f cpu=%.6f rss_kb=%s%s", events, seconds, spent, rss, more)
end

def open_connection(url)
  connection = Bunny.new(url, network_recovery_interval: 0.1, logger: Logger.new(IO::NULL))
  connection.start
  connection
end

def send_event(exchange, queue, i)
  e = event(order(i))
  exchange.publish(JSON.generate(e), routing_key: queue, persistent: true, content_type: "application/json",
                   type: e[:type], app_id: e[:source], message_id: e[:id], timestamp: Time.now.to_i,
                   headers: { tenant_id: e[:tenant_id] })
end

# The callback runs in the reader's thread; the window is what the two share.
class Confirms
  def initialize(channel)
    @mutex, @changed, @outstanding = Mutex.new, ConditionVariable.new, {}
    channel.confirm_select(lambda do |tag, multiple, nack|
      abort "not confirmed" if nack
      @mutex.synchronize do
        multiple ? settle_up_to(tag) : @outstanding.delete(tag)
        @changed.signal
      end
    end)
  end

  # A hash keeps the order of the notes, which is that of the tags.
  def settle_up_to(tag)
    @outstanding.shift while !@outstanding.empty? && @outstanding.first[0] <= tag
  end

  # Notes the tag before its message is sent: the answer may come at once.
  def note(tag)
    @mutex.synchronize { @outstanding[tag] = true }
  end

  def below(count)
    @mutex.synchronize { @changed.wait(@mutex) while @outstanding.size >= count }
  end
end

def publish(events, url, queue, window)
  warm = events / 10
  connection = open_connection(url)
  channel = connection.create_channel
  channel.queue(queue, durable: true)
  confirms = Confirms.new(channel)
  exchange = channel.default_exchange
  (warm + events).times do |i|
    if i == warm
      confirms.below(1)
      start
    end
    confirms.below(window)
    confirms.note(channel.next_publish_seq_no)
    send_event(exchange, queue, i)
  end
  confirms.below(1)
  finish(events)
  connection.close
end

def publish_none(events, url, queue)
  warm = events / 10
  connection = open_connection(url)
  channel = connection.create_channel
  channel.queue(queue, durable: true)
  exchange = channel.default_exchange
  (warm + events).times do |i|
    start if i == warm
    send_event(exchange, queue, i)
  end
  channel.queue_declare(queue, passive: true)
  finish(events)
  connection.close
end

def consume(events, url, queue)
  warm = events / 10
  connection = open_connection(url)
  channel = connection.create_channel
  channel.prefetch(PREFETCH)
  total = 0
  seen = 0
  done = Queue.new
  start if warm.zero?
  channel.queue(queue, durable: true).subscribe(manual_ack: true) do |delivery, _, body|
    total += JSON.parse(body)["data"]["total"]
    channel.ack(delivery.delivery_tag)
    seen += 1
    start if seen == warm
    done.push(true) if seen == warm + events
  end
  done.pop
  finish(events)
  connection.close
  abort "the totals do not add up" unless total == 1000 * (warm + events)
end

def latency(events, url, queue)
  warm = events / 10
  sender = open_connection(url)
  receiver = open_connection(url)
  out = sender.create_channel
  channel = receiver.create_channel
  channel.prefetch(PREFETCH)
  sent = []
  waits = []
  done = Queue.new
  channel.queue(queue, durable: true).subscribe(manual_ack: true) do |delivery, _, body|
    JSON.parse(body)
    waits.push(now - sent[waits.size])
    channel.ack(delivery.delivery_tag)
    done.push(true) if waits.size == warm + events
  end
  out.confirm_select
  exchange = out.default_exchange
  start
  began = now
  (warm + events).times do |i|
    pause = began + i.to_f / RATE - now
    sleep(pause) if pause.positive?
    sent.push(now)
    send_event(exchange, queue, i)
  end
  done.pop
  out.wait_for_confirms
  waits = waits.drop(warm).sort
  at = ->(p) { waits[(waits.size * p).ceil - 1] * 1e6 }
  finish(warm + events, format(" p50_us=%.0f p99_us=%.0f p999_us=%.0f", at[0.5], at[0.99], at[0.999]))
  sender.close
  receiver.close
end

def topology(events, url, queue)
  connection = open_connection(url)
  channel = connection.create_channel
  start
  events.times { |i| channel.queue_declare("#{queue}.#{i + 1}", durable: true) }
  finish(events)
  connection.close
end

def consumers(events, url, queue)
  connection = open_connection(url)
  events.times do
    channel = connection.create_channel
    channel.prefetch(1)
    channel.queue(queue, durable: true).subscribe(manual_ack: true) { |_, _, _| }
  end
  puts "ready pid=#{Process.pid}"
  $stdout.flush
  sleep
end

def json(what, events, items)
  e = event(order(1, items))
  text = JSON.generate(e)
  warm = events / 10
  (warm + events).times do |i|
    start if i == warm
    what == "encode" ? JSON.generate(e) : JSON.parse(text)
  end
  finish(events, " bytes=#{text.bytesize}")
end

abort "usage: client JOB EVENTS URL QUEUE" unless ARGV.size == 4
job, events, url, queue = ARGV[0], ARGV[1].to_i, ARGV[2], ARGV[3]
case job
when "publish" then publish(events, url, queue, WINDOW)
when "publish-one" then publish(events, url, queue, 1)
when "publish-none" then publish_none(events, url, queue)
when "consume" then consume(events, url, queue)
when "latency" then latency(events, url, queue)
when "topology" then topology(events, url, queue)
when "consumers" then consumers(events, url, queue)
when /\A(encode|decode)-(small|10k|1m)\z/ then json($1, events, SIZES[$2])
else abort "no such job: #{job}"
end
