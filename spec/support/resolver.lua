--- resolver: names of a test's own for the resolver of a child process, without root.
---
---     local names = resolver.new(path)               -- a file that stays until the test's folder goes
---     names:point("broker.example", "127.0.0.2")     -- at once, also for a process that runs
---     program.start("client", command, names.environment)
---
-- Only root changes /etc/hosts; libnss_wrapper reads a file of ours instead, again whenever it has changed. HOSTALIASES
-- only gives names for names that a DNS server knows, and asks one.

local resolver = {}

local Resolver = {}
Resolver.__index = Resolver

local WRAPPER = { "/usr/lib/x86_64-linux-gnu/libnss_wrapper.so", "/usr/lib/aarch64-linux-gnu/libnss_wrapper.so",
  "/usr/lib/libnss_wrapper.so", "/usr/lib64/libnss_wrapper.so" }

local function wrapper()
  for _, path in ipairs(WRAPPER) do
    local file = io.open(path, "rb")
    if file then
      file:close()
      return path
    end
  end
  error("libnss_wrapper.so is missing; type: make deps", 0)
end

--- `path`: of the file with the names; none is known yet.
function resolver.new(path)
  return setmetatable({ path = path, environment = { LD_PRELOAD = wrapper(), NSS_WRAPPER_HOSTS = path } }, Resolver)
end

--- From now on the name has this address, and no other name has any.
function Resolver:point(name, address)
  local file = assert(io.open(self.path .. ".new", "wb"))
  file:write(("%s %s\n"):format(address, name))
  file:close()
  assert(os.rename(self.path .. ".new", self.path))
end

return resolver
