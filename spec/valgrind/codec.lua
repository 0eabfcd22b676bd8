--- Envelopes, JSON and URLs, right and wrong. No broker.

local core = require "eventbus.core"
local envelope = require "eventbus.envelope"
local json = require "eventbus.json"

local deep = {}
for _ = 1, 200 do deep = { deep } end

for n = 1, 50 do
  local event = envelope.new { type = "order.created", data = { n = n, text = ("é"):rep(n), list = { 1, 2.5 } } }
  local bytes = assert(envelope.encode(event))
  assert(envelope.decode(bytes).data.n == n)
  for cut = 1, #bytes - 1, 7 do assert(not envelope.decode(bytes:sub(1, cut))) end
end
assert(not json.encode(deep))
assert(not json.encode { f = print })
assert(not json.encode { [1] = 1, x = 2 })
assert(not json.encode("\255"))
assert(json.decode(("["):rep(128) .. ("]"):rep(128), { max_depth = 128 }))
for _, text in ipairs { "", "{", "[1,]", '"\\u12"', "1e999", ("["):rep(2000), '{"a":1', "nul", '"\255"', "[1 2]" } do
  assert(not json.decode(text))
end
assert(core.url "amqps://u:p%40@a,[::1]:5673/v?heartbeat=10&verify=verify_none")
for _, url in ipairs { "", "amqp", "amqp://a:b:c@d", "amqp://h:99999", "amqp://h?x=1", "amqps://h?keyfile=/none",
  "amqp://[::1" } do
  assert(not core.url(url))
end
