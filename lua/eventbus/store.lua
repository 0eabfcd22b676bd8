--- A SQLite file that holds what a service knows, and the ids of the events it knows it from: both change in one transaction
-- or not at all, so an event that comes twice, or whose service was killed half way, counts once. On disk (fsync) before the
-- handler ends, and so before the event is acknowledged. By LuaSQL (lua-sql-sqlite3). The workers of one service may share
-- the file; each waits its turn. Statements raise when they fail: in a handler that is a failure, and the event comes again.
--
--   local db = assert(store.open("orders.db", { "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, total REAL)" }))
--   db:once(event.id, function() db:execute("INSERT INTO orders VALUES (?, ?)", data.order_id, data.total) end)

local core = require "eventbus.core"
local json = require "eventbus.json"
local stream = require "eventbus.stream"

local store = {}

local BUSY_TIMEOUT = 5
local REMEMBER_DAYS = 90

---@class eventbus.Store
---@field path string
local Store = {}
Store.__index = Store

local function number_text(value)
  if value ~= value or value == math.huge or value == -math.huge then return nil end
  if math.type and math.type(value) == "integer" then return ("%d"):format(value) end
  if value % 1 == 0 and math.abs(value) < 2 ^ 53 then return ("%.0f"):format(value) end
  return ("%.17g"):format(value)
end

-- A value as SQLite's literal. LuaSQL binds no parameters, and its own escape ends at a NUL.
local function literal(value)
  local kind = type(value)
  if value == nil or value == json.null then return "NULL" end
  if kind == "boolean" then return value and "1" or "0" end
  if kind == "number" then return number_text(value) end
  if kind ~= "string" then return nil end
  if value:find("%z") then
    return "CAST(X'" .. value:gsub(".", function(c) return ("%02X"):format(c:byte()) end) .. "' AS TEXT)"
  end
  return "'" .. value:gsub("'", "''") .. "'"
end

local function bind(sql, count, values)
  local n, wrong = 0, nil
  local text = sql:gsub("%?", function()
    n = n + 1
    local written = n <= count and literal(values[n]) or nil
    if not written and n <= count then wrong = n end
    return written
  end)
  if wrong then return nil, ("value %d (a %s) cannot be stored by %q"):format(wrong, type(values[wrong]), sql) end
  if n ~= count then return nil, ("%d values for the %d places of %q"):format(count, n, sql) end
  return text
end

local function run(self, sql, ...)
  if not self._connection then error("store: it is closed", 3) end
  local text, wrong = bind(sql, select("#", ...), { ... })
  if not text then error("store: " .. wrong, 3) end
  local result, err = self._connection:execute(text)
  if not result then error(("%s: %s"):format(self.path, (tostring(err):gsub("^LuaSQL: ", ""))), 3) end
  return result
end

--- Runs one statement; each `?` in it stands for a value (nil is NULL). Returns how many rows it changed.
---@param sql string
---@param ... string|number|boolean|nil
---@return integer
function Store:execute(sql, ...)
  local result = run(self, sql, ...)
  if type(result) == "number" then return result end
  result:close()
  return 0
end

--- All rows of a query, each a table by column name.
---@param sql string
---@param ... string|number|boolean|nil
---@return table[]
function Store:query(sql, ...)
  local cursor, rows = run(self, sql, ...), {}
  if type(cursor) == "number" then return rows end
  while true do
    local row, err = cursor:fetch({}, "a")
    if not row then
      if err then error(("%s: %s"):format(self.path, (tostring(err):gsub("^LuaSQL: ", ""))), 2) end
      return rows
    end
    rows[#rows + 1] = row
  end
end

--- The first row of a query, or nil.
---@return table|nil
function Store:row(sql, ...)
  return self:query(sql, ...)[1]
end

--- Runs `change` in a transaction, kept when it returns and undone when it raises; the error passes on. It must not wait
-- for anything: other workers wait for it. Returns what `change` returns.
function Store:transaction(change, ...)
  if self._inside then error("store: a transaction inside a transaction", 2) end
  self:execute "BEGIN IMMEDIATE"
  self._inside = true
  local ok, result = pcall(change, ...)
  if ok then ok, result = pcall(function()
    self:execute "COMMIT"
    return result
  end) end
  self._inside = false
  if ok then return result end
  -- Some failures (a full disk) have undone it already.
  pcall(self.execute, self, "ROLLBACK")
  error(result, 0)
end

--- Runs `change` once for this id, both in one transaction. Returns true, and whether it was the first time.
---@param id string
---@param change function
---@return true, boolean
function Store:once(id, change)
  return true, self:transaction(function()
    if self:seen(id) then return false end
    change()
    self:remember(id)
    return true
  end)
end

--- Was this id remembered?
---@param id string
---@return boolean
function Store:seen(id)
  return self:row("SELECT 1 AS found FROM eventbus_seen WHERE id = ?", id) ~= nil
end

--- Remembers an id, for at least 90 days.
---@param id string
function Store:remember(id)
  self:execute("INSERT OR IGNORE INTO eventbus_seen VALUES (?, CAST(strftime('%s', 'now') AS INTEGER))", id)
end

function Store:close()
  if self._connection then
    self._connection:close()
    self._environment:close()
  end
  self._connection = nil
end

-- Where two make the file at once SQLite refuses one of them the WAL, and does not let it wait. Who wants the file for
-- itself waits for its turn; so this one does that, and asks again.
local function use_wal(self)
  local till = core.now() + BUSY_TIMEOUT
  while true do
    local ok, problem = pcall(self.query, self, "PRAGMA journal_mode = WAL")
    if ok then return end
    if core.now() > till or not tostring(problem):find("locked", 1, true) then error(problem, 0) end
    self:execute "BEGIN EXCLUSIVE"
    self:execute "COMMIT"
  end
end

--- Opens or makes the file. `schema` is a list of statements, run each time: CREATE TABLE IF NOT EXISTS. Without a path
-- all is kept in memory.
---@param path? string
---@param schema? string[]
---@return eventbus.Store|nil, string|nil
function store.open(path, schema)
  local sql = stream.need("luasql.sqlite3", "lua-sql-sqlite3")
  local environment = sql.sqlite3()
  local connection, err = environment:connect(path or ":memory:", BUSY_TIMEOUT * 1000)
  if not connection then return nil, ("%s: %s"):format(path or ":memory:", (tostring(err):gsub("^LuaSQL: ", ""))) end
  local self = setmetatable({ path = path or ":memory:", _environment = environment, _connection = connection }, Store)
  local ok, problem = pcall(function()
    -- WAL: who reads the numbers does not stop who writes them. FULL: a commit survives a power cut.
    use_wal(self)
    self:execute "PRAGMA synchronous = FULL"
    self:transaction(function()
      self:execute "CREATE TABLE IF NOT EXISTS eventbus_seen (id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID"
      for _, statement in ipairs(schema or {}) do self:execute(statement) end
      self:execute("DELETE FROM eventbus_seen WHERE at < strftime('%s', 'now') - ?", REMEMBER_DAYS * 86400)
    end)
  end)
  if ok then return self end
  self:close()
  return nil, (tostring(problem):gsub("^[^:]*%.lua:%d+: ", ""))
end

return store
