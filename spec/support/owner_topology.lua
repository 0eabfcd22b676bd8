-- The owner's tables, taken by their letter: a topology with every trap in it. A fixture for lint, never declared.
return {
  exchanges = {
    orders = { type = "topic" }, products = { type = "topic" }, customers = { type = "topic" },
    payments = { type = "topic" }, notifications = { type = "topic" }, analytics = { type = "fanout" },
    deadletter = { type = "direct" },
  },
  queues = {
    ["order.processing"] = { message_ttl = 86400000,
      dead_letter = { exchange = "deadletter", routing_key = "order.processing.failed" } },
    ["deadletter.orders"] = { bindings = { { exchange = "deadletter", routing_key = "order.*.failed" } } },
    notification = { bindings = { { exchange = "orders", routing_key = "order.*" },
      { exchange = "customers", routing_key = "customer.created" },
      { exchange = "payments", routing_key = "payment.*" } } },
    crm = { bindings = { { exchange = "orders", routing_key = "order.completed" },
      { exchange = "customers", routing_key = "customer.*" } } },
    search = { bindings = { { exchange = "products", routing_key = "product.*" } } },
    analytics = { bindings = { { exchange = "analytics", routing_key = "*" } } },
    warehouse = { bindings = { { exchange = "orders", routing_key = "order.confirmed" },
      { exchange = "products", routing_key = "inventory.*" } } },
    telegram = { bindings = { { exchange = "notifications", routing_key = "notification.telegram" } } },
  },
}
