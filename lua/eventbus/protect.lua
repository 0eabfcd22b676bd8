--- Protected calls through which a coroutine can yield, on every Lua.
-- Lua 5.1 (not LuaJIT) cannot yield across pcall. There, inside a coroutine, the function runs in a coroutine of its own,
-- whose yields are handed on to whoever resumed the outer one. Everywhere else these are pcall and xpcall.

local protect = {}

local running = coroutine.running

-- LuaJIT always can; in nginx the library may be loaded where coroutines cannot be made.
local across_pcall = rawget(_G, "jit") ~= nil
if not across_pcall then
  local co = coroutine.create(function() return pcall(coroutine.yield) end)
  coroutine.resume(co)
  across_pcall = coroutine.status(co) == "suspended"
end

local passes_arguments = select(2, xpcall(function(x) return x end, print, true)) == true

if across_pcall then
  -- Not the functions themselves: a traceback would name them as ours.
  function protect.pcall(...) return pcall(...) end
  function protect.xpcall(...) return xpcall(...) end

  --- The coroutine to resume when the caller is to go on, or nil in the main one.
  function protect.running()
    local current, main = running()
    if main then return nil end
    return current
  end

  --- Whether the caller is in an inner coroutine of ours.
  function protect.is_inner()
    return false
  end
else
  local outer_of = setmetatable({}, { __mode = "k" })
  local unpack = table.unpack or unpack

  function protect.running()
    local current = running()
    while current and outer_of[current] do current = outer_of[current] end
    return current
  end

  function protect.is_inner()
    local current = running()
    return current ~= nil and outer_of[current] ~= nil
  end

  local function drive(inner, handler, ok, ...)
    if not ok then return false, handler(..., inner) end
    if coroutine.status(inner) == "dead" then return true, ... end
    return drive(inner, handler, coroutine.resume(inner, coroutine.yield(...)))
  end

  --- As xpcall; `handler` also gets the coroutine that failed, for debug.traceback.
  function protect.xpcall(f, handler, ...)
    local outer = running()
    if not outer then
      if passes_arguments or select("#", ...) == 0 then return xpcall(f, handler, ...) end
      local arguments, n = { ... }, select("#", ...)
      return xpcall(function() return f(unpack(arguments, 1, n)) end, handler)
    end
    local inner = coroutine.create(f)
    outer_of[inner] = outer
    return drive(inner, handler, coroutine.resume(inner, ...))
  end

  local function same(value) return value end

  function protect.pcall(f, ...)
    return protect.xpcall(f, same, ...)
  end
end

return protect
