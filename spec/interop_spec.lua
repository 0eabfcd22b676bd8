--- A Go service written as in the platform's document (spec/go/main.go has its struct and its calls) reads our events,
--- and we read its.

local eventbus = require "eventbus"
local core = require "eventbus.core"
local broker = require "spec.support.broker"

local json = eventbus.json

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1", "r"))
  local out = pipe:read("*a")
  pipe:close()
  return out
end

local ORDER = {
  order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
  items = { { product_id = "prod_456", sku = "SKU001", quantity = 2, price = 500.00 } },
  total = 1000.00, currency = "UAH", status = "pending",
}

describe("a Go service of the platform", function()
  local bus, url

  setup(function()
    url = broker.shared():new_vhost()
    bus = eventbus.assert(eventbus.connect { url = url, source = "oms-service" })
    eventbus.assert(bus:declare {
      exchanges = { orders = { type = "topic" } },
      queues = { interop = { bindings = { { exchange = "orders", routing_key = "order.*" } } } },
    })
  end)
  teardown(function() bus:close() end)

  it("reads the events we publish", function()
    local id = eventbus.assert(bus:publish("orders", "order.created", ORDER,
      { tenant_id = "tenant_abc", correlation_id = "req_xyz", metadata = { version = "1.0" } }))
    local out = run(("build/interop consume '%s' interop 1"):format(url))
    local event, err = json.decode(out:match("[^\n]+") or "")
    assert.is_truthy(event, tostring(err) .. "\n" .. out)
    assert.are.equal(id, event.id)
    assert.are.equal("order.created", event.type)
    assert.are.equal("oms-service", event.source)
    assert.are.equal("tenant_abc", event.tenant_id)
    assert.are.equal("req_xyz", event.correlation_id)
    assert.are.equal("1.0", event.metadata.version)
    assert.are.equal("SKU001", event.data.items[1].sku)
    assert.are.equal(1000, event.data.total)
    assert.is_truthy(event.timestamp:match("^%d%d%d%d%-%d%d%-%d%dT"))
  end)

  it("publishes events that we read", function()
    local event, key
    local subscription = eventbus.assert(bus:subscribe("interop", function(e, ctx) event, key = e, ctx.routing_key end))
    local out = run(("build/interop publish '%s' orders order.created tenant_go"):format(url))
    local deadline = core.now() + 30
    while not event and core.now() < deadline do bus:poll(0.2) end
    subscription:cancel()
    assert.is_truthy(event, out)
    assert.are.equal("order.created", event.type)
    assert.are.equal("order.created", key)
    assert.are.equal("tenant_go", event.tenant_id)
    assert.is_truthy(event.id:match("^evt_"))
    assert.is_table(event.data)
  end)
end)
