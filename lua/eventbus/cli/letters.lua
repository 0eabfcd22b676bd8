--- Dead letters for people and for machines: which are meant, how one reads, how many belong together.

local connection = require "eventbus.cli.connection"
local json = require "eventbus.json"
local letter = require "eventbus.letter"
local pattern = require "eventbus.pattern"
local predicate = require "eventbus.cli.predicate"
local text = require "eventbus.cli.text"

local letters = {}

--- What a predicate may name.
letters.NAMES = letter.NAMES

letters.WHERE_HELP = [[
EXPRESSION is Lua and sees: event, data, metadata, headers, properties, body,
size, id, type, tenant, source, correlation, reason, error, code, attempts,
replays, queue, exchange, routing_key, host, age (seconds), redelivered,
history. Where a letter is malformed event and data are nil.]]

--- Adds the options that say which letters are meant.
---@param parser table
---@param limit_help? string
function letters.options(parser, limit_help)
  parser:option("--where", "Only those for which this Lua expression is true."):argname("EXPRESSION")
  parser:option("--id", "Only the one with this event id; may be repeated."):argname("ID"):count("*")
  parser:option("--type", "Only events of this type, or pattern of types: order.*"):argname("TYPE")
  parser:option("--limit", limit_help or "At most so many; default: all that are there."):argname("N")
    :convert(connection.count(1))
end

--- The function that chooses, nil when all are meant. A mistake in --where ends the command.
---@param args table
---@return nil|fun(letter: eventbus.Letter): boolean|nil, string|nil
function letters.selection(args)
  local where = args.where and predicate.new(args.where, "--where", letters.NAMES)
  local ids, matches = nil, args.type and pattern.compile(args.type)
  for _, id in ipairs(args.id or {}) do
    ids = ids or {}
    ids[id] = true
  end
  if not where and not ids and not matches then return nil end
  return function(l)
    if ids and not ids[l.id or ""] then return false end
    if matches and not matches(l.type or "") then return false end
    if not where then return true end
    local result, why = where:matches(l)
    if result == nil then return nil, ("--where '%s': %s"):format(args.where, why) end
    return result
  end
end

-- Texts that anyone may have sent.

-- Well-formed UTF-8 of some bytes: what is none becomes U+FFFD.
local function scrub(bytes)
  if json.encode(bytes) then return bytes end
  local out, at = {}, 1
  while at <= #bytes do
    local byte = bytes:byte(at)
    local size = byte < 0x80 and 1 or byte >= 0xF0 and 4 or byte >= 0xE0 and 3 or 2
    local character = bytes:sub(at, at + size - 1)
    if json.encode(character) then
      out[#out + 1] = character
      at = at + size
    else
      out[#out + 1] = "\239\191\189"
      at = at + 1
    end
  end
  return table.concat(out)
end

-- JSON has no words for these numbers.
local function named(number)
  if number ~= number then return "nan" end
  if number == math.huge or number == -math.huge then return number > 0 and "inf" or "-inf" end
  return number
end

local function scrubbed(value)
  if type(value) == "string" then return scrub(value) end
  if type(value) == "number" then return named(value) end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, item in pairs(value) do result[scrubbed(key)] = scrubbed(item) end
  return setmetatable(result, getmetatable(value))
end

--- JSON of a value, whatever bytes and numbers are in it.
---@param value any
---@return string
function letters.json(value)
  local encoded = json.encode(value, { sort_keys = true, max_depth = 1024 })
  return encoded or assert(json.encode(scrubbed(value), { sort_keys = true, max_depth = 1024 }))
end

-- A text of somebody else's must not steer the terminal.
local function safe(several)
  return (tostring(several):gsub("[^\n]+", text.safe))
end

local function one_line(line)
  return text.safe((tostring(line):gsub("%s+", " ")))
end
letters.one_line = one_line

--- JSON over several lines, two spaces deeper for each level.
---@param compact string
---@param indent string
---@return string
function letters.indented(compact, indent)
  local out, depth, at = {}, 0, 1
  local function line() out[#out + 1] = "\n" .. indent .. ("  "):rep(depth) end
  while at <= #compact do
    local c = compact:sub(at, at)
    if c == '"' then
      local last = at + 1
      while compact:sub(last, last) ~= '"' do
        last = last + (compact:sub(last, last) == "\\" and 2 or 1)
      end
      out[#out + 1] = compact:sub(at, last)
      at = last
    elseif (c == "{" or c == "[") and compact:find("^[%]}]", at + 1) then
      out[#out + 1] = compact:sub(at, at + 1)
      at = at + 1
    elseif c == "{" or c == "[" then
      out[#out + 1], depth = c, depth + 1
      line()
    elseif c == "}" or c == "]" then
      depth = depth - 1
      line()
      out[#out + 1] = c
    else
      out[#out + 1] = c == ":" and ": " or c
      if c == "," then line() end
    end
    at = at + 1
  end
  return safe(table.concat(out))
end

--- Seconds as people say them: "3 s", "5 min", "7 h", "2 d".
---@param seconds number|nil
---@return string
function letters.age(seconds)
  if not seconds then return "?" end
  if seconds < 120 then return ("%d s"):format(math.floor(seconds)) end
  if seconds < 7200 then return ("%d min"):format(math.floor(seconds / 60)) end
  if seconds < 172800 then return ("%d h"):format(math.floor(seconds / 3600)) end
  return ("%d d"):format(math.floor(seconds / 86400))
end

-- One letter.

--- All that is known of a letter, as one value for JSON.
---@param l eventbus.Letter
---@return table
function letters.value(l)
  local value = {
    id = l.id, type = l.type, tenant_id = l.tenant, reason = l.reason, error = l.error, error_code = l.code,
    attempts = l.attempts, replays = l.replays, queue = l.queue, exchange = l.exchange, routing_key = l.routing_key,
    first_failure = l.first_failure, last_failure = l.last_failure, host = l.host, redelivered = l.redelivered,
    age = l.age and math.floor(l.age), event = l.event, headers = l.headers, properties = l.properties,
  }
  if not l.event then value.body, value.problem = l.body, l.problem and l.problem.message end
  if l.history[1] then
    value.history = json.array {}
    for i, death in ipairs(l.history) do
      value.history[i] = { queue = death.queue, reason = death.reason, count = death.count, time = death.time,
        exchange = death.exchange, routing_keys = json.array(death.routing_keys) }
    end
  end
  return value
end

local function place(l)
  if not l.routing_key then return nil end
  return ("exchange %s, key %s"):format(l.exchange == "" and "(default)" or one_line(l.exchange), one_line(l.routing_key))
end

-- Headers of other people; ours and the broker's are told in words.
local function foreign(headers)
  local result = {}
  for name, value in pairs(headers) do
    if not name:find("^x%-eventbus%-") and not name:find("^x%-.*death") then result[name] = value end
  end
  return next(result) ~= nil and result or nil
end

--- A letter for people.
---@param out eventbus.cli.Terminal
---@param l eventbus.Letter
function letters.write(out, l)
  local function field(name, value)
    if value ~= nil and value ~= "" then out:write("  ", out:style("dim", ("%-12s"):format(name)), " ", value, "\n") end
  end
  out:write(out:style("bold", one_line(l.id or "(no id)")), "  ", one_line(l.type or "(no type)"), "  ",
    out:style("red", one_line(l.reason)), (" after %d attempt%s, %s ago"):format(l.attempts, l.attempts == 1 and "" or "s",
      letters.age(l.age)), "\n")
  field("error", l.error and safe(l.error):gsub("\n", "\n               "))
  field("code", l.code and one_line(l.code))
  field("raised at", l.headers["x-eventbus-error-at"] and one_line(l.headers["x-eventbus-error-at"]))
  field("queue", l.queue and one_line(l.queue))
  field("published to", place(l))
  field("tenant", l.tenant and one_line(l.tenant))
  field("correlation", l.correlation and one_line(l.correlation))
  field("source", l.source and one_line(l.source))
  field("failed", l.last_failure and (l.first_failure and l.first_failure ~= l.last_failure
    and one_line(l.first_failure) .. " to " .. one_line(l.last_failure) or one_line(l.last_failure)))
  field("host", l.host and one_line(l.host))
  field("replays", l.replays > 0 and tostring(l.replays) or nil)
  for _, death in ipairs(l.history) do
    field("broker", ("%s in %s, %d time%s, %s"):format(one_line(death.reason or "?"), one_line(death.queue or "?"),
      death.count or 1, death.count == 1 and "" or "s", death.time or "?"))
  end
  local headers = foreign(l.headers)
  field("headers", headers and letters.indented(letters.json(headers), "               "))
  if l.event then
    field("metadata", l.metadata and letters.indented(letters.json(l.metadata), "               "))
    field("data", letters.indented(letters.json(l.data), "               "))
  else
    field("malformed", l.problem and one_line(l.problem.message))
    field("body", l.body and safe(l.body))
  end
  out:write("\n")
end

-- Many letters.

local Groups = {}
Groups.__index = Groups

--- An error's text without what differs from letter to letter: ids, numbers, and what follows the first line.
---@param err string
---@return string
function letters.normalised(err)
  err = err:match("^[^\n]*")
  err = err:gsub("%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x", "*")
  err = err:gsub("evt_[%w*_-]+", "*")
  err = err:gsub("%f[%w]%x*%d%x*%f[%W]", function(word) return (#word >= 8 or word:find("^%d+$")) and "*" or nil end)
  return (err:gsub("%d+", "*"))
end

--- Counts of letters that failed alike: reason, error, event type, original queue.
function letters.groups()
  return setmetatable({ by_key = {}, list = {}, count = 0 }, Groups)
end

---@param l eventbus.Letter
function Groups:add(l)
  local problem = l.error or (l.reason == "malformed" or not l.event) and l.problem and l.problem.message or ""
  local err = scrub(letters.normalised(problem))
  local key = table.concat({ l.reason, err, l.type or "", l.queue or "" }, "\0")
  local group = self.by_key[key]
  if not group then
    group = { key = key, reason = scrub(l.reason), error = err, type = l.type and scrub(l.type),
      queue = l.queue and scrub(l.queue), count = 0, example = l.id and scrub(l.id) }
    self.by_key[key] = group
    self.list[#self.list + 1] = group
  end
  group.count = group.count + 1
  self.count = self.count + 1
  local age = l.age
  if age then
    group.oldest = math.max(group.oldest or 0, math.floor(age))
    group.newest = math.min(group.newest or math.huge, math.floor(age))
    self.oldest = math.max(self.oldest or 0, math.floor(age))
  end
end

--- The groups as values for JSON, largest first.
---@return table[]
function Groups:values()
  local list = json.array {}
  for i, group in ipairs(self:sorted()) do
    list[i] = { reason = group.reason, error = group.error, type = group.type, queue = group.queue, count = group.count,
      example = group.example, oldest = group.oldest, newest = group.newest }
  end
  return list
end

--- The groups, largest first.
---@return table[]
function Groups:sorted()
  table.sort(self.list, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.key < b.key
  end)
  return self.list
end

--- Writes them as a table.
---@param out eventbus.cli.Terminal
function Groups:write(out)
  -- The error is last and gives way: a table that wraps is hard to read.
  local room = out.tty and math.max(out:width() - 60, 20) or 200
  local rows = { { "COUNT", "REASON", "TYPE", "QUEUE", "OLDEST", "ERROR" } }
  for _, group in ipairs(self:sorted()) do
    rows[#rows + 1] = { group.count, one_line(group.reason), one_line(group.type or "-"), one_line(group.queue or "-"),
      letters.age(group.oldest), (text.fit(one_line(group.error), room):gsub(" +$", "")) }
  end
  out:rows(rows, { true })
end

return letters
