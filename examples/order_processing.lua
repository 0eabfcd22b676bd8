-- The order service's worker: has each order in processing shipped by a carrier and says so with order.shipped.
--
--   CARRIER_API=https://carrier.example eventbus run examples/order_processing.lua
--
-- CARRIER_API        POST <url>/shipments { order_id } answers { number }
-- SHIPMENTS_JOURNAL  a file that remembers across restarts which orders were shipped
--
-- Order the shipment, then say so, then remember, then acknowledge. Killed in between, all of it is done again: the carrier
-- knows the request by its key, and order.shipped goes out with the same id.

local eventbus = require "eventbus"
local http = require "eventbus.http"
local journal = require "eventbus.journal"

local carrier = os.getenv "CARRIER_API" or "http://localhost:8080"
local shipped

local function ship(event, ctx)
  if shipped:has(event.id) then return end
  local order_id = event.data.order_id
  local answer, err = http.post(carrier .. "/shipments", { order_id = order_id }, {
    headers = { ["idempotency-key"] = event.id },
  })
  if not answer then return nil, err end
  if answer.status == 422 then eventbus.reject("the carrier refuses " .. order_id) end
  local number = type(answer.json) == "table" and answer.json.number
  if answer.status >= 300 or not number then
    return nil, ("the carrier answered %d for %s"):format(answer.status, order_id)
  end

  local tracking = { carrier = "Nova Poshta", number = number }
  eventbus.assert(ctx:publish("orders", "order.shipped", { order_id = order_id, tracking = tracking },
    { id = event.id .. ":shipped" }))
  shipped:add(event.id, { order_id = order_id, number = tracking.number })
  print(("  %s travels as %s"):format(order_id, tracking.number))
end

local service = {
  name = "order-processing",
  source = "oms-service",
  queue = "order.processing",
  handlers = { ["order.processing"] = ship },
}

function service.start()
  shipped = assert(journal.open(os.getenv "SHIPMENTS_JOURNAL"))
end

return service
