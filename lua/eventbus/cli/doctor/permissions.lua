--- What the user may do with the topology's names: configure (declare), write (publish, bind queues), read (consume, bind
-- to exchanges). The management API tells administrators the expressions; `grep -P` reads them as the broker does.
-- Without it, unbinding what never was bound is a question that changes nothing: the broker says 403, or nothing.

local management = require "eventbus.management"
local schema = require "eventbus.topology.schema"

local permissions = {}

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Of some names those that an expression does not match; nil when it cannot be evaluated here.
local function not_matched(expression, list)
  if expression == ".*" then return {} end
  if expression == "" or expression == "^$" then return list end
  local words = { "printf '%s\\n'" }
  for _, name in ipairs(list) do words[#words + 1] = quote(name) end
  local pipe = io.popen(table.concat(words, " ") .. " | LC_ALL=C grep -P -v -e " .. quote(expression)
    .. " 2>/dev/null; echo \"rc=$?\"", "r")
  local out = pipe:read("*a")
  pipe:close()
  local text, code = out:match("^(.*)rc=(%d+)\n$")
  if code ~= "0" and code ~= "1" then return nil end
  local missing = {}
  for line in text:gmatch("[^\n]+") do missing[#missing + 1] = line end
  return missing
end

-- Names by permission, as declaring, publishing and consuming need them.
local function needed(topology)
  local exchanges, queues, all = schema.sorted_keys(topology.exchanges), schema.sorted_keys(topology.queues), {}
  local read = {}
  for _, name in ipairs(exchanges) do all[#all + 1] = name end
  for _, name in ipairs(queues) do
    all[#all + 1] = name
    if not topology.queues[name].dead_letters then read[#read + 1] = name end
  end
  local bound = {}
  for _, b in ipairs(topology.bindings) do bound[b.source] = true end
  for _, name in ipairs(schema.sorted_keys(bound)) do read[#read + 1] = name end
  return { { "configure", all, "declare them" }, { "write", all, "publish to exchanges and bind queues" },
    { "read", read, "consume from queues and bind to exchanges" } }
end

local function tell(report, user, permission, list, missing, purpose)
  if #missing == 0 then
    report:ok("permissions", ("%s may %s all %d names of the topology"):format(user, permission, #list))
  else
    report:warn("permissions", ("%s may not %s %%s, and so not %s"):format(user:gsub("%%", "%%%%"), permission, purpose),
      ("rabbitmqctl set_permissions -p VHOST %s CONFIGURE WRITE READ, if it is to"):format(user), missing)
  end
end

-- True when the API told.
local function by_expressions(report, api, user, topology)
  local answer = api:get(("/permissions/%s/%s"):format(management.escape(api.vhost), management.escape(user)))
  if type(answer) ~= "table" or type(answer.configure) ~= "string" then return false end
  for _, need in ipairs(needed(topology)) do
    local permission, list, purpose = need[1], need[2], need[3]
    local missing = not_matched(answer[permission], list)
    if missing then
      tell(report, user, permission, list, missing, purpose)
    else
      report:unseen("permissions", ("%s is %q, which cannot be evaluated here"):format(permission, answer[permission]),
        "GNU grep with -P")
    end
  end
  return true
end

-- What a broker answers of an entity that is not there, or is another connection's: of permissions that says nothing.
local SILENT = { not_found = true, locked = true }

-- What is refused, and why not all could be asked.
local function refused_by(bus, topology)
  local refused, nobody, trouble = {}, "eventbus-doctor-never-bound", nil
  local function ask(step, args)
    if trouble then return end
    local ok, err = bus._hub:call(step, args)
    if ok or SILENT[err.code] then return end
    if err.code == "refused" then
      refused[#refused + 1] = err.message:match("%- (.-) refused for user") or err.message
    else
      trouble = err
    end
  end
  for _, b in ipairs(topology.bindings) do
    if b.kind == "queue" then
      ask("queue_unbind", { queue = b.destination, exchange = b.source, routing_key = nobody, record = false })
    else
      ask("exchange_unbind", { destination = b.destination, source = b.source, routing_key = nobody, record = false })
    end
  end
  local known, list = {}, {}
  for _, text in ipairs(refused) do
    if not known[text] then list[#list + 1] = text end
    known[text] = true
  end
  return list, trouble
end

--- Reports what the user lacks. `api` nil or of a user who is no administrator: what AMQP tells.
---@param report eventbus.cli.Report
---@param bus eventbus.Bus
---@param api eventbus.Management|nil
---@param user string
---@param topology table  normalised
function permissions.look(report, bus, api, user, topology)
  if api and by_expressions(report, api, user, topology) then return end
  local refused, trouble = refused_by(bus, topology)
  if trouble then
    report:error("permissions", ("cannot ask what %s may bind: %s"):format(user, trouble.message),
      "see to that, and ask again")
  end
  if #refused > 0 then
    report:warn("permissions", user:gsub("%%", "%%%%") .. " is refused: %s",
      ("rabbitmqctl set_permissions -p VHOST %s CONFIGURE WRITE READ, if it is to bind these"):format(user), refused)
  elseif not trouble then
    report:ok("permissions", ("%s may bind every queue of the topology"):format(user))
  end
  report:unseen("permissions", ("whether %s may declare and consume"):format(user),
    "an administrator may ask: --management http://ADMIN:PASSWORD@HOST:15672")
end

permissions.not_matched = not_matched

return permissions
