--- installed: the library as somebody has it who installed it: the modules of a folder, no checkout in sight.
---
---     local told = installed.smoke("lua5.1", tree, "5.1", url)   -- { id =, handled =, version =, library =, core = }
---     local r = installed.run({ tree .. "/bin/eventbus", "--version" })         -- { output =, code = }

local program = require "spec.support.program"

local installed = {}

-- What such a user's first script does. It says where its modules came from.
local SMOKE = [[
local eventbus = require "eventbus"
local bus = eventbus.assert(eventbus.connect { url = arg[1], source = "smoke" })
eventbus.assert(bus:declare(require("eventbus.platform").topology))
local id = eventbus.assert(bus:publish("orders", "order.created", { order_id = "o1", total = 12.5 }))
eventbus.assert(bus:subscribe("notification.orders", {
  ["order.created"] = function(event)
    print("handled " .. event.id .. " " .. event.data.order_id .. " " .. event.data.total)
    bus:stop()
  end,
}))
eventbus.assert(bus:run { timeout = 30 })
assert(bus:close())
print("id " .. id)
print("version " .. eventbus._VERSION)
print("library " .. debug.getinfo(eventbus.connect, "S").source:sub(2))
for template in package.cpath:gmatch("[^;]+") do
  local path = template:gsub("%?", "eventbus/core")
  local file = io.open(path, "rb")
  if file then print("core " .. path) file:close() break end
end
]]

-- A shell line without the variables by which this run finds the checkout, in an empty folder.
local function clean(words, environment)
  local line = { "cd", program.quote(program.folder()), "&&", "exec", "env" }
  for _, name in ipairs { "LUA_PATH", "LUA_CPATH", "LUA_INIT", "EVENTBUS_LUA", "EVENTBUS_CPATH", "MAKEFLAGS", "MFLAGS",
    "MAKELEVEL", "MAKEOVERRIDES" } do
    line[#line + 1] = "-u " .. name
  end
  for _, version in ipairs { "5_2", "5_3", "5_4" } do
    line[#line + 1] = ("-u LUA_PATH_%s -u LUA_CPATH_%s"):format(version, version)
  end
  for name, value in pairs(environment or {}) do line[#line + 1] = program.quote(name .. "=" .. value) end
  for _, word in ipairs(words) do line[#line + 1] = program.quote(word) end
  return table.concat(line, " ")
end

--- Runs a program as that user would: its whole output, and its exit code.
---@return { output: string, code: integer }
function installed.run(words, environment, seconds)
  local pipe = assert(io.popen(("exec 2>&1 </dev/null; (%s); echo \"rc=$?\""):format(
    clean({ "timeout", "-k", "5", tostring(seconds or 60), (table.unpack or unpack)(words) }, environment)), "r"))
  local text = pipe:read("*a")
  pipe:close()
  local output, code = text:match("^(.*)rc=(%d+)\n$")
  return { output = output or text, code = tonumber(code) }
end

--- The same, and an error with the output unless it succeeds.
function installed.must(words, environment, seconds)
  local r = installed.run(words, environment, seconds)
  if r.code ~= 0 then error(("%s\nfailed with %s:\n%s"):format(table.concat(words, " "), tostring(r.code), r.output), 2) end
  return r.output
end

--- Publishes and consumes with the modules below `prefix` (share/lua and lib/lua, or the folders given), under `lua`.
---@return table<string, string>
function installed.smoke(lua, prefix, abi, url, libdir)
  local path = program.folder() .. "/smoke.lua"
  local file = assert(io.open(path, "wb"))
  file:write(SMOKE)
  file:close()
  local share = prefix .. "/share/lua/" .. abi
  local output = installed.must({ lua, path, url }, {
    LUA_PATH = ("%s/?.lua;%s/?/init.lua;;"):format(share, share),
    LUA_CPATH = (libdir or prefix .. "/lib/lua/" .. abi) .. "/?.so;;",
  })
  local told = { output = output }
  for key, value in output:gmatch("(%l+) ([^\n]*)") do told[key] = value end
  return told
end

return installed
