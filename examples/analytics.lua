-- Analytics: counts all events of the platform by type and tenant.
--
--   ANALYTICS_FILE=events.jsonl eventbus run examples/analytics.lua
--
-- ANALYTICS_FILE  one line per event; read again at the start

local journal = require "eventbus.journal"

local counts = {}

local function add(record)
  local tenant = record.tenant_id or "-"
  counts[tenant] = counts[tenant] or {}
  counts[tenant][record.type] = (counts[tenant][record.type] or 0) + 1
  return counts[tenant][record.type]
end

local file = assert(journal.open(os.getenv "ANALYTICS_FILE", add))

local function count(event)
  if file:has(event.id) then return end
  local record = { type = event.type, tenant_id = event.tenant_id, timestamp = event.timestamp }
  file:add(event.id, record)
  print(("  %s of %s: %d"):format(event.type, event.tenant_id or "-", add(record)))
end

local service = {
  name = "analytics",
  queue = "analytics.events",
  handlers = { ["#"] = count },
  options = { prefetch = 100 },
}

function service.stop()
  for tenant, types in pairs(counts) do
    for type, n in pairs(types) do print(("  %s  %s  %d"):format(tenant, type, n)) end
  end
end

return service
