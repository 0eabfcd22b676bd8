--- resolver: names of a test's own for the resolver of a child process, without root.
---
---     local names = resolver.new(path)               -- a file that stays until the test's folder goes
---     names:point("broker.example", "127.0.0.2")     -- at once, also for a process that runs
---     program.start("client", command, names.environment)
---
-- Only root changes /etc/hosts; names.c, preloaded, reads a file of ours first. HOSTALIASES only gives names for names
-- that a DNS server knows, and asks one.

local resolver = {}

local Resolver = {}
Resolver.__index = Resolver

local function preloaded()
  local path = os.getenv "EVENTBUS_CPATH" .. "/spec/names.so"
  local file = io.open(path, "rb")
  if not file then error(path .. " is missing; type: make spec-modules", 0) end
  file:close()
  return path
end

--- `path`: of the file with the names; none is known yet.
function resolver.new(path)
  return setmetatable({ path = path, environment = { LD_PRELOAD = preloaded(), EVENTBUS_SPEC_NAMES = path } }, Resolver)
end

--- From now on the name has this address, and no other name has any.
function Resolver:point(name, address)
  local file = assert(io.open(self.path .. ".new", "wb"))
  file:write(("%s %s\n"):format(address, name))
  file:close()
  assert(os.rename(self.path .. ".new", self.path))
end

return resolver
