--- The platform's exchanges, queues and bindings as one topology table (see eventbus.topology).
-- A queue per service and subject, durable and classic, because services in other languages declare the same names.
-- Retry queues are not here: a consumer that retries declares its own.

local services = require "eventbus.platform.services"

local topology = {
  exchanges = {
    orders = { type = "topic" },
    products = { type = "topic" },
    customers = { type = "topic" },
    payments = { type = "topic" },
    notifications = { type = "topic" },
    -- The table's `analytics` is the diagram's `events`: one fanout, under one name.
    analytics = { type = "fanout" },
    deadletter = { type = "direct" },
  },
  queues = {},
  bindings = {},
}

-- Of the diagram's queues search.reindex is the search service's. The others (order.created, product.stock, loyalty.earned,
-- ...) are event names, and no service reads them: declared, they would fill up without a consumer, the very thing the
-- owner's alerts are about.
--
-- A `deadletter` queue of each queue, bound with that queue's own `<queue>.failed`. The owner binds deadletter.orders
-- with `order.*.failed`, but `deadletter` is a direct exchange, to which a wildcard is a literal text that never comes.
-- How long dead letters are kept is RABBITMQ_DLQ_TTL (dead_letters = true).
for _, service in ipairs(services) do
  for name, queue in pairs(service.queues) do
    local failed = name .. ".failed"
    topology.queues[name] = {
      message_ttl = queue.message_ttl,
      dead_letter = { exchange = "deadletter", routing_key = failed },
      bindings = queue.bindings,
    }
    topology.queues[queue.dead_letters or "deadletter." .. name] = {
      dead_letters = true,
      bindings = { { exchange = "deadletter", routing_key = failed } },
    }
  end
end

-- Analytics takes everything: from each topic exchange, whatever the key, to the fanout.
for _, source in ipairs { "orders", "products", "customers", "payments", "notifications" } do
  table.insert(topology.bindings, { source = source, destination = "analytics", routing_key = "#" })
end

return topology
