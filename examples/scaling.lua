-- From one process to a cluster, on three RabbitMQ nodes of one's own: `make scaling`. docs/scaling.md tells what it shows.
--
--   scaling.lua [EVENTS [DOCUMENT | STEP]]     DOCUMENT.md: its tables between the marks are written anew
--                                              STEP: only this one; workers, concurrency, queues, spread, failover,
--                                              partitions, takeover, streams, arithmetic

local root = (arg[0]:match "^(.*)examples/scaling%.lua$" or "./"):gsub("^$", "./")
package.path = root .. "?.lua;" .. root .. "examples/?.lua;" .. package.path

local children = require "demo.children"
local cluster = require "scaling.cluster"
local confirmed = require "scaling.confirmed"
local eventbus = require "eventbus"
local partitions = require "scaling.partitions"
local queues = require "scaling.queues"
local socket = require "socket"
local workers = require "scaling.workers"

local events, document, only = tonumber(arg[1] or 5000), nil, nil
if arg[2] and arg[2]:find "%.md$" then document = arg[2] else only = arg[2] end

-- What the steps work with.
local site = { found = {}, events = events, now = socket.gettime, lua = os.getenv "EVENTBUS_LUA" or "lua5.4" }

--- Until `done()`; meanwhile the bus is polled, for so many seconds (0.02) at a time.
function site:wait(done, what, pause)
  local deadline = socket.gettime() + 300
  while true do
    local result = done()
    if result then return result end
    if socket.gettime() > deadline then error("waited in vain until " .. what, 0) end
    self.bus:poll(pause or 0.02)
  end
end

--- Messages (those under way too) and consumers of a classic queue, as the broker has them now.
function site:queue(name)
  local term = self.cluster:eval(1, ('case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)) of '
    .. "{ok, Q} -> [{messages, M}, {consumers, C}] = rabbit_amqqueue:info(Q, [messages, consumers]), {M, C}; _ -> none end")
    :format(name))
  local messages, consumers = term:match "{(%d+), *(%d+)}"
  return { messages = tonumber(messages) or -1, consumers = tonumber(consumers) or -1 }
end

--- Publishes so many, all confirmed, of `tenants` (1) tenants in turn; each tenant's are numbered. Events per second.
--- `options.header`: the name of a header of its own that holds a key, as many different ones as tenants.
--- `options.in_order`: a tenant's next event once the one before it is confirmed: none overtakes one that was refused.
--- `options.after`: so many, a multiple of the tenants, were published before: their numbers go on.
function site:publish(exchange, count, options, tenants)
  count, tenants = math.floor(count), tenants or 1
  local after = options.after or 0
  local size = options.in_order and tenants or count
  local began = socket.gettime()
  for first = 0, count - 1, size do
    local batch = {}
    for i = first, math.min(first + size, count) - 1 do
      batch[#batch + 1] = {
        bus = self.bus, exchange = exchange, data = { n = math.floor((after + i) / tenants) + 1, total = 1000.00 },
        options = { tenant_id = "tenant_" .. i % tenants, routing_key = options.routing_key,
          headers = options.header and { [options.header] = "order_" .. i % tenants } or nil },
      }
    end
    confirmed.publish(batch)
  end
  return count / (socket.gettime() - began)
end

function site:start(name, command, environment)
  environment.RABBITMQ_URL = self.cluster.url
  return self.children:start(name, command, environment)
end

--- Asks a process to end and waits for it.
function site:finish(child)
  children.signal(child, "TERM")
  local code = children.wait(child, 60)
  if code ~= 0 then
    error(("%s %s:\n%s"):format(child.name, code and "ended with " .. code or "did not end in a minute",
      table.concat(children.lines(child), "\n")), 0)
  end
end

local STEPS = {
  { name = "workers", step = workers.workers }, { name = "concurrency", step = workers.concurrency },
  { name = "queues", step = queues.queues, needed_by = "arithmetic" }, { name = "spread", step = queues.spread },
  { name = "failover", step = queues.failover, needed_by = "arithmetic" },
  { name = "partitions", step = partitions.partitions }, { name = "takeover", step = partitions.takeover },
  { name = "streams", step = require "scaling.streams", needed_by = "arithmetic" },
  { name = "arithmetic", step = require "scaling.arithmetic" },
}

local function shown(value)
  if type(value) ~= "number" then return value end
  return value % 1 == 0 and ("%d"):format(value) or value < 100 and ("%.2f"):format(value) or ("%.0f"):format(value)
end

local function each_row(result, f)
  f(result[1])
  for _, row in ipairs(result[2]) do
    local cells = {}
    for i, value in ipairs(row) do cells[i] = shown(value) end
    f(cells)
  end
end

local function markdown(result)
  local lines = {}
  each_row(result, function(cells)
    lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |"
    if #lines == 1 then lines[2] = "|---|" .. ("---:|"):rep(#cells - 1) end
  end)
  return table.concat(lines, "\n") .. "\n"
end

local function machine()
  local pipe = io.popen "nproc; cut -d ' ' -f 3 /proc/loadavg"
  local cores, load = pipe:read "*l", pipe:read "*l"
  pipe:close()
  return ("%s, RabbitMQ %s, three nodes and all clients on %s cores; load of the quarter of an hour before: %s"):format(
    os.date "!%Y-%m-%d", site.cluster:eval(1, "rabbit_misc:version()"):match "[%d.]+" or "?", cores or "?", load or "?")
end

local function run()
  print "starting three nodes"
  site.cluster = cluster.start(site.children.folder)
  site.bus = eventbus.assert(eventbus.connect { url = site.cluster.url, source = "scaling", log = false })
  local results, steps = { machine = machine() .. "\n" }, {}
  for _, each in ipairs(STEPS) do
    if not only or each.name == only or each.needed_by == only then steps[#steps + 1] = each end
  end
  for _, each in ipairs(steps) do
    print("\n" .. each.step.title)
    local result = each.step.run(site)
    each_row(result, function(cells)
      local line = {}
      for i, cell in ipairs(cells) do line[i] = ("%-" .. (i == 1 and 32 or 12) .. "s"):format(cell) end
      print("  " .. table.concat(line, "  "))
    end)
    site.found[each.name], results[each.name] = result, markdown(result)
  end
  if document then require("bench.suite.marks").write(document, results) end
end

local pipe = io.popen 'mktemp -d "${TMPDIR:-/tmp}/eventbus-scaling.XXXXXX"'
site.children = children.new(pipe:read "*l")
pipe:close()
local ok, err = pcall(run)
if site.bus then site.bus:close() end
local failed = site.children:stop()
if site.cluster then site.cluster:stop() end
site.children:close()
if not ok then
  io.stderr:write(tostring(err), "\n")
elseif #failed > 0 then
  io.stderr:write("not ended in order: ", table.concat(failed, ", "), "\n")
end
os.exit(ok and #failed == 0 and 0 or 1)
