--- The services of the platform and the queues they read, as "Service Subscriptions" means them.
-- `consumes` repeats the owner's row; the bindings say what it takes to get exactly that from a broker, and where the two
-- differ a comment says why. Every queue belongs to one service: two services never compete for a message.

local DAY_MS = 86400000

local function bind(exchange, routing_key)
  return { exchange = exchange, routing_key = routing_key }
end

-- A key that no event of the catalogue has yet, bound on purpose.
local function bind_for_later(exchange, routing_key)
  return { exchange = exchange, routing_key = routing_key, intended = true }
end

local services = {}

services[1] = {
  name = "notification", source = "notification-service",
  consumes = { "order.*", "customer.created", "payment.*" },
  queues = {
    ["notification.orders"] = { bindings = { bind("orders", "order.*") } },
    ["notification.customers"] = { bindings = { bind("customers", "customer.created") } },
    -- `payment.*` would miss payment.refund.completed, of which a customer surely is to be told.
    ["notification.payments"] = { bindings = { bind("payments", "payment.#") } },
    -- Not in the table, but no other service could send these three, and without a queue they would be dropped.
    ["notification.outgoing"] = {
      bindings = {
        bind("notifications", "notification.email"),
        bind("notifications", "notification.sms"),
        bind("notifications", "notification.push"),
      },
    },
  },
}

services[2] = {
  name = "crm", source = "crm-service",
  consumes = { "order.completed", "customer.*" },
  queues = {
    -- No event is called order.completed. An order is complete for the customer when it is delivered; the owner's name
    -- stays bound for the day somebody publishes it.
    ["crm.orders"] = { bindings = { bind("orders", "order.delivered"), bind_for_later("orders", "order.completed") } },
    -- `customer.*` would miss segments, tiers and points, all of them three words long.
    ["crm.customers"] = { bindings = { bind("customers", "customer.#") } },
  },
}

services[3] = {
  name = "search", source = "search-service",
  consumes = { "product.*" },
  queues = {
    -- The table says `product.*`, the owner's own QueueBind `product.#`: stock and prices belong into the index.
    ["search.products"] = { bindings = { bind("products", "product.#") } },
    -- From the owner's diagram, in the column of products: asks for the whole index again. No table has it as an event.
    ["search.reindex"] = { bindings = { bind_for_later("products", "search.reindex") } },
  },
}

services[4] = {
  name = "analytics", source = "analytics-service",
  consumes = { "*" },
  queues = {
    -- "All events via fanout": the topology binds every topic exchange to `analytics`; a fanout has no use for a key.
    ["analytics.events"] = { bindings = { bind("analytics", "") } },
  },
}

services[5] = {
  name = "warehouse", source = "warehouse-service",
  consumes = { "order.confirmed", "inventory.*" },
  queues = {
    ["warehouse.orders"] = { bindings = { bind("orders", "order.confirmed") } },
    -- No event is called inventory.anything: stock travels as product.stock.*. The owner's name stays bound, too.
    ["warehouse.stock"] = {
      bindings = { bind("products", "product.stock.*"), bind_for_later("products", "inventory.*") },
    },
  },
}

services[6] = {
  name = "telegram-bot", source = "telegram-bot",
  consumes = { "notification.telegram" },
  queues = {
    ["telegram.notifications"] = { bindings = { bind("notifications", "notification.telegram") } },
  },
}

-- Not among the subscriptions, but the owner declares the queue, with these options, and watches it in Prometheus: the
-- order service's own work. Its options name it and nothing binds it; as in the owner's diagram a queue called like an
-- event gets that event.
services[7] = {
  name = "order-processing", source = "oms-service",
  consumes = {},
  queues = {
    ["order.processing"] = {
      message_ttl = DAY_MS,
      bindings = { bind("orders", "order.processing") },
      dead_letters = "deadletter.orders",
    },
  },
}

return services
