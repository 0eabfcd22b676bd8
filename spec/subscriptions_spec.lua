-- The owner's table "Service Subscriptions", row by row: all six services run beside each other, every event of the platform
-- is published, and each service handles exactly what its row says.

local platform = require "eventbus.platform"
local services = require "spec.support.services"
local wait = require "spec.support.wait"

-- What a row means, where its pattern says less (eventbus.platform.services tells why), and by which file it is consumed.
local ROWS = {
  { "notification", "Notification", "`order.*`, `customer.created`, `payment.*`",
    { "order.created", "order.confirmed", "order.paid", "order.processing", "order.shipped", "order.delivered",
      "order.cancelled", "order.refunded", "order.completed", "customer.created", "payment.initiated", "payment.completed",
      "payment.failed", "payment.refund.completed",
      -- Nobody else could send them.
      "notification.email", "notification.sms", "notification.push" } },
  { "crm", "CRM", "`order.completed`, `customer.*`",
    { "order.completed", "order.delivered", "customer.created", "customer.updated", "customer.segment.changed",
      "customer.tier.changed", "customer.points.earned", "customer.points.redeemed" } },
  { "search", "Search", "`product.*`",
    { "product.created", "product.updated", "product.deleted", "product.stock.updated", "product.stock.low",
      "product.stock.out", "product.price.changed", "search.reindex" } },
  { "analytics", "Analytics", "`*` (all events via fanout)", "all" },
  { "warehouse", "Warehouse", "`order.confirmed`, `inventory.*`",
    { "order.confirmed", "product.stock.updated", "product.stock.low", "product.stock.out", "inventory.updated",
      "inventory.low", "inventory.out" } },
  { "telegram_bot", "Telegram Bot", "`notification.telegram`", { "notification.telegram" } },
}

-- Events that no table lists, but a row or the diagram names.
local MORE = {
  { "order.completed", "orders", "order.delivered" }, { "inventory.updated", "products", "product.stock.updated" },
  { "inventory.low", "products", "product.stock.low" }, { "inventory.out", "products", "product.stock.out" },
  { "search.reindex", "products", "product.stock.out" },
}

describe("Service Subscriptions", function()
  local s, programs, published

  setup(function()
    s, programs, published = services.new(), {}, {}
    local api = s:peer()
    for _, row in ipairs(ROWS) do programs[row[1]] = s:spawn(row[1], { TELEGRAM_API = api.url }) end
    for name, p in pairs(programs) do
      wait(function() return p:output():find(" is ready", 1, true), p:output() end, 30, name .. " is ready")
    end
    -- The stock that the confirmed order takes from, and no more is left to be said about.
    services.handled(programs.warehouse, s:publish("product.stock.updated", { sku = "SKU001", quantity = 100 },
      { timestamp = "2999-01-01T00:00:00Z" }))
    for _, event in ipairs(platform.catalogue) do
      published[s:publish(event.type)] = event.type
    end
    for _, more in ipairs(MORE) do
      published[s:publish(more[1], services.example(more[3]), { exchange = more[2] })] = more[1]
    end
    for _, name in ipairs { "analytics", "notification", "crm", "search", "warehouse", "telegram_bot" } do
      for _, service in ipairs(platform.services) do
        if service.name == name:gsub("_", "-") then
          for queue in pairs(service.queues) do
            wait(function()
              local found = s.node:queue(s.vhost, queue)
              return found.messages == 0, found.messages
            end, 30, queue .. " is empty")
          end
        end
      end
    end
  end)

  teardown(function() s:stop() end)

  for _, row in ipairs(ROWS) do
    it(("| %s | %s |"):format(row[2], row[3]), function()
      local expected, handled, want = {}, nil, 0
      if row[4] == "all" then
        for _, type in pairs(published) do expected[type] = 1 end
      else
        for _, type in ipairs(row[4]) do expected[type] = 1 end
      end
      for _ in pairs(expected) do want = want + 1 end
      -- An event's line is written after its acknowledgement.
      wait(function()
        local got = 0
        handled = {}
        for id, type in pairs(published) do
          local pattern = "  " .. type:gsub("%p", "%%%0") .. "  " .. id:gsub("%p", "%%%0")
            .. "  %S+  %S+  attempt 1  %d+ ms  done"
          for _ in programs[row[1]]:output():gmatch(pattern) do handled[type], got = (handled[type] or 0) + 1, got + 1 end
        end
        return got >= want, programs[row[1]]:output()
      end, 30, "all is told of")
      assert.same(expected, handled)
      assert.is_nil(programs[row[1]]:output():find("dead-lettered", 1, true))
    end)
  end

  it("is the same in the platform's own words", function()
    for _, row in ipairs(ROWS) do
      local consumes
      for _, service in ipairs(platform.services) do
        if service.name == row[1]:gsub("_", "-") then consumes = service.consumes end
      end
      local patterns = {}
      for pattern in row[3]:gmatch("`([^`]+)`") do patterns[#patterns + 1] = pattern end
      assert.same(patterns, consumes)
    end
  end)
end)
