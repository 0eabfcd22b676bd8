local eventbus = require "eventbus"
local json = require "eventbus.json"
local program = require "spec.support.program"
local store = require "eventbus.store"
local wait_until = require("spec.support.wait").wait_until

local SCHEMA = { "CREATE TABLE IF NOT EXISTS t (a, b)" }

local function new()
  local path = program.folder() .. "/s.db"
  return assert(store.open(path, SCHEMA)), path
end

describe("eventbus.store", function()
  it("keeps values as they are: text with quotes, question marks and NUL, numbers, nothing", function()
    local db = new()
    local values = { "it's", 'a?"b', "a\0b", "чай", "", 0, -1.5, 1e300, 0.1, 123456789012345 }
    for i, value in ipairs(values) do assert.equal(1, db:execute("INSERT INTO t VALUES (?, ?)", i, value)) end
    for i, row in ipairs(db:query "SELECT * FROM t ORDER BY a") do assert.equal(values[i], row.b) end
    db:execute("INSERT INTO t VALUES (?, ?)", "null", nil)
    db:execute("INSERT INTO t VALUES (?, ?)", "null", json.null)
    assert.same({ { n = 2 } }, db:query("SELECT count(*) AS n FROM t WHERE a = ? AND b IS NULL", "null"))
    assert.is_nil(db:row("SELECT * FROM t WHERE a = ?", "none"))
    db:close()
  end)

  it("runs a change once for an id, across a restart, too", function()
    local db, path = new()
    local runs = 0
    local function change()
      runs = runs + 1
      db:execute("INSERT INTO t VALUES (1, 2)")
    end
    assert.same({ true, true }, { db:once("evt_1", change) })
    assert.same({ true, false }, { db:once("evt_1", change) })
    db:close()
    db = assert(store.open(path, SCHEMA))
    assert.same({ true, false }, { db:once("evt_1", change) })
    assert.equal(1, runs)
    assert.equal(1, #db:query "SELECT * FROM t")
    db:close()
  end)

  it("undoes all of a change that raises, passes on what it raised, and does not remember the id", function()
    local db = new()
    local reason = { kind = "mine" }
    local ok, raised = pcall(db.once, db, "evt_1", function()
      db:execute("INSERT INTO t VALUES (1, 2)")
      error(reason)
    end)
    assert.is_false(ok)
    assert.equal(reason, raised)
    assert.equal(0, #db:query "SELECT * FROM t")
    assert.is_false(db:seen "evt_1")
    assert.same({ true, true }, { db:once("evt_1", function() end) })
    db:close()
  end)

  it("raises what SQLite says, and what a program did wrong, with the file's name", function()
    local db, path = new()
    local function fails(text, ...)
      local ok, message = pcall(db.execute, db, ...)
      assert.is_false(ok)
      assert.truthy(message:find(text, 1, true), message)
    end
    fails(path .. ": no such table: nope", "INSERT INTO nope VALUES (1)")
    fails("1 values for the 2 places", "INSERT INTO t VALUES (?, ?)", 1)
    fails("3 values for the 2 places", "INSERT INTO t VALUES (?, ?)", 1, 2, 3)
    fails("value 2 (a table) cannot be stored", "INSERT INTO t VALUES (?, ?)", 1, {})
    fails("value 1 (a number) cannot be stored", "INSERT INTO t VALUES (?, 2)", 0 / 0)
    assert.matches("a transaction inside a transaction",
      select(2, pcall(db.transaction, db, function() db:transaction(function() end) end)))
    db:close()
    fails("it is closed", "SELECT 1")
  end)

  it("answers nil and the reason for a file that cannot be opened, or is something else", function()
    local db, err = store.open(program.folder() .. "/missing/s.db")
    assert.is_nil(db)
    assert.matches("missing/s.db: unable to open database file", err, 1, true)
    local path = program.folder() .. "/text"
    local file = assert(io.open(path, "wb"))
    file:write(("no database\n"):rep(100))
    file:close()
    db, err = store.open(path)
    assert.is_nil(db)
    assert.equal(path .. ": file is not a database", err)
  end)

  it("lets several processes write, each waiting for its turn", function()
    local db, path = new()
    local script = program.folder() .. "/worker.lua"
    local file = assert(io.open(script, "wb"))
    file:write [[
      local store, now = require "eventbus.store", require("eventbus").core.now
      -- The lock is not fair: on a slow disk who has waited all the time that there is asks again.
      local function in_the_end(call)
        local ok, err, began
        repeat
          began = now()
          ok, err = call()
        until ok or not tostring(err):find("locked", 1, true) or now() < began + 4.5
        return assert(ok, err)
      end
      local db = in_the_end(function() return store.open(arg[1]) end)
      for i = 1, 100 do
        in_the_end(function()
          return pcall(db.once, db, "evt_" .. i, function() db:execute("INSERT INTO t VALUES (?, ?)", i, arg[2]) end)
        end)
      end
    ]]
    file:close()
    local workers = {}
    for i = 1, 3 do workers[i] = program.start("worker", { program.lua(), script, path, tostring(i) }) end
    for _, worker in ipairs(workers) do assert.equal(0, worker:wait(120), worker:output()) end
    assert.same({ { n = 100, ids = 100 } }, db:query "SELECT count(*) AS n, count(DISTINCT a) AS ids FROM t")
    db:close()
  end)

  it("lets several processes make the file at once (one was told that it is locked)", function()
    local folder = program.folder()
    local file = assert(io.open(folder .. "/worker.lua", "wb"))
    file:write [[
      local store, wall = require "eventbus.store", require("eventbus").core.wall
      print "here"
      io.stdout:flush()
      local began
      repeat
        local file = io.open(arg[1] .. "/began")
        began = file and file:read "*n"
        if file then file:close() end
      until began
      for i = 1, 60 do
        while wall() < began + i * 0.03 do end
        assert(store.open(arg[1] .. "/new.db" .. i)):close()
      end
    ]]
    file:close()
    local workers = {}
    for i = 1, 3 do workers[i] = program.start("worker", { program.lua(), folder .. "/worker.lua", folder }) end
    for _, worker in ipairs(workers) do
      wait_until(function() return worker:output():find("here", 1, true), worker:output() end, 30, "it has started")
    end
    file = assert(io.open(folder .. "/began.new", "wb"))
    file:write(("%.3f"):format(eventbus.core.wall() + 0.2))
    file:close()
    assert(os.rename(folder .. "/began.new", folder .. "/began"))
    for _, worker in ipairs(workers) do assert.equal(0, worker:wait(60), worker:output()) end
  end)

  it("forgets ids after 90 days", function()
    local db, path = new()
    db:remember "new"
    db:execute("INSERT INTO eventbus_seen VALUES ('old', strftime('%s', 'now') - ?)", 91 * 86400)
    db:close()
    db = assert(store.open(path))
    assert.same({ true, false }, { db:seen "new", db:seen "old" })
    db:close()
  end)
end)
