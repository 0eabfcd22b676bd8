--- garbage: `garbage(f)` leaves a value that nobody has; `f` is called when it is collected. On 5.1 and LuaJIT only a
--- userdata has such a call, and newproxy makes one.

local newproxy = rawget(_G, "newproxy")

return function(f)
  if newproxy then
    getmetatable(newproxy(true)).__gc = f
  else
    setmetatable({}, { __gc = f })
  end
end
