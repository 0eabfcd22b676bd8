--- eventbus new: a consumer to start from.

local exit = require "eventbus.cli.exit"

local new = { summary = "Make a consumer script and its spec." }

function new.define(parser)
  parser:argument("name", "Of the service; its files are NAME.lua and spec/NAME_spec.lua."):argname("NAME")
  parser:option("--event", "The event it handles; default order.created (eventbus events list has all)."):argname("TYPE")
  parser:option("--queue", "An existing queue to consume; default: one of its own, NAME."):argname("QUEUE")
  parser:epilog([[
  eventbus new welcome --event customer.created
  busted --lua=lua5.4                       its spec passes (your Lua)
  eventbus run welcome.lua --reload         it runs]])
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

local function write(path, text)
  local file, err = io.open(path, "wb")
  if not file then exit.fail("cannot write " .. tostring(err)) end
  local ok
  ok, err = file:write(text)
  local closed, late = file:close()
  if ok and closed then return end
  os.remove(path)
  exit.fail(("cannot write %s: %s"):format(path, tostring(err or late)))
end

function new.run(args, cli)
  local name = args.name
  if not name:find("^%a[%w_-]*$") then
    exit.misuse(("NAME %q: a letter, then letters, digits, _ and -"):format(name))
  end
  local script, spec = require("eventbus.cli.skeleton").texts(name, args.event or "order.created", args.queue)
  if not script then exit.misuse("--event: " .. spec) end
  local files = { { name .. ".lua", script }, { "spec/" .. name .. "_spec.lua", spec } }
  for _, file in ipairs(files) do
    if exists(file[1]) then exit.fail(file[1] .. " exists already", "nothing was written; choose another name") end
  end
  local ok, err = require("luv").fs_mkdir("spec", 493)  -- rwxr-xr-x
  if not ok and not tostring(err):find("EEXIST", 1, true) then
    exit.fail("cannot make the folder spec: " .. tostring(err))
  end
  for _, file in ipairs(files) do
    write(file[1], file[2])
    cli.out:line("made ", file[1])
  end
  cli.out:line("run it:  eventbus run ", name, ".lua --reload")
  -- busted's own choice may be another Lua, for which eventbus is not built.
  cli.out:line("test it: busted --lua=", require("luv").exepath())
end

return new
