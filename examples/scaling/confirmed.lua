-- Publishes until the broker has taken responsibility for every event. What it refuses now (a nack) it may take in a moment:
-- a quorum queue refuses while no leader of it answers, as when its node was lost or stands still.

local eventbus = require "eventbus"

local confirmed = {}

local PAUSE, PATIENCE = 0.05, 60

--- Publishes all of `events`, { bus =, exchange =, data =, options = }, and waits for their confirms; each one's id is put
--- into its `options`. What was refused is published once more, as the same event, and so comes after those that were not:
--- where the order of a key counts, let one call have one event of it. Returns how often something was published once more.
--- Raises an error after which another try is in vain, and any once it has paused for a minute in all.
function confirmed.publish(events)
  local again, paused = 0, 0
  while true do
    local tickets, refused = {}, {}
    for i, event in ipairs(events) do
      tickets[i] = eventbus.assert(event.bus:publish_async(event.exchange, "order.created", event.data, event.options))
    end
    for i, ticket in ipairs(tickets) do
      local ok, err = ticket:wait(120)
      events[i].options.id = ticket.id
      if not ok then
        if not err.retryable or paused >= PATIENCE then error(err, 0) end
        refused[#refused + 1] = events[i]
      end
    end
    if #refused == 0 then return again end
    again, events, paused = again + #refused, refused, paused + PAUSE
    eventbus.assert(refused[1].bus:poll(PAUSE))
  end
end

return confirmed
