--- wait: wait for a condition, with a deadline. A test never sleeps for a time it hopes is enough.

local has_socket, socket = pcall(require, "socket")

local wait = {}

function wait.now()
  return has_socket and socket.gettime() or os.time()
end

function wait.sleep(seconds)
  if has_socket then
    socket.sleep(seconds)
  else
    os.execute(("sleep %.3f"):format(seconds))
  end
end

--- Calls `condition` every 10 ms until it returns something true, and returns that.
--- Raises at the caller's line after `seconds` (default 20); the message names `what` and the last answer.
function wait.wait_until(condition, seconds, what)
  seconds = seconds or 20
  local deadline = wait.now() + seconds
  while true do
    -- Looked at before: the last look is one after the deadline, however long we stood still.
    local late = wait.now() >= deadline
    local result, more = condition()
    if result then return result, more end
    if late then
      local last = more ~= nil and more or result
      error(("waited %s s in vain until %s (last answer: %s)"):format(seconds, what or "the condition holds",
        tostring(last)), 2)
    end
    wait.sleep(0.01)
  end
end

return setmetatable(wait, { __call = function(_, ...) return wait.wait_until(...) end })
