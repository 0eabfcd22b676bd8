--- The blocking loop: the one place of the library that waits.
-- A loop adapter has this one function; an adapter for an event loop yields here until the descriptor `bus:fd()` is
-- readable or the time is over.

local blocking = { name = "blocking" }

--- Waits until the bus has something to take, a signal came, or `seconds` have passed.
---@param bus any  the core's bus
---@param seconds number
function blocking.wait(bus, seconds)
  return bus:wait(seconds)
end

return blocking
