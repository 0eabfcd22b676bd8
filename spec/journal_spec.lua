local journal = require "eventbus.journal"
local program = require "spec.support.program"

local function path_in_folder()
  return program.folder() .. "/j.jsonl"
end

local function write(path, mode, text)
  local file = assert(io.open(path, mode))
  file:write(text)
  file:close()
end

local function count_lines(path)
  local n = 0
  for _ in io.lines(path) do n = n + 1 end
  return n
end

describe("eventbus.journal", function()
  it("knows its ids and records again after a restart", function()
    local path = path_in_folder()
    local j = assert(journal.open(path))
    assert.is_false(j:has "a")
    j:add("a", { n = 9007199254740993 })
    local records = {}
    local again = assert(journal.open(path, function(record) records[#records + 1] = record end))
    assert.is_true(again:has "a")
    assert.same({ { id = "a", n = 9007199254740993 } }, records)
  end)

  it("skips a line cut short by a crash, and goes on after it", function()
    local path = path_in_folder()
    local j = assert(journal.open(path))
    j:add "a"
    write(path, "ab", '{"id":"b","n":')
    j = assert(journal.open(path))
    assert.is_true(j:has "a")
    assert.is_false(j:has "b")
    j:add "c"
    j = assert(journal.open(path))
    assert.same({ true, false, true }, { j:has "a", j:has "b", j:has "c" })
  end)

  it("is a journal also when its very first line was cut short", function()
    local path = path_in_folder()
    write(path, "wb", '{"id":"b","n":')
    assert(assert(journal.open(path)):add "c")
    local j = assert(journal.open(path))
    assert.same({ false, true }, { j:has "b", j:has "c" })
    write(path, "wb", '{"event":"b"}\n')
    assert.matches("is not a journal", select(2, journal.open(path)), 1, true)
  end)

  it("goes on after a line that a full disk cut short while it was open", function()
    local path = path_in_folder()
    local j = assert(journal.open(path))
    j:add "a"
    write(path, "ab", '{"id":"b","n":')
    j:add "c"
    assert.is_true(j:has "c")
    j = assert(journal.open(path))
    assert.same({ true, false, true }, { j:has "a", j:has "b", j:has "c" })
    assert.are.equal(3, count_lines(path))
  end)

  it("knows an event by its id, whatever a record calls by that name", function()
    for _, path in ipairs { path_in_folder(), false } do
      local seen = {}
      local j = assert(journal.open(path or nil, function(record) seen[#seen + 1] = record end))
      j:add("a", { id = "other", n = 1 })
      j:add("b", { id = 7 })
      assert.same({ true, true, false }, { j:has "a", j:has "b", j:has "other" })
      assert.same({ { id = "a", n = 1 }, { id = "b" } }, seen)
    end
  end)

  it("knows what another process with the same file has added", function()
    local path = path_in_folder()
    local seen = {}
    local one, other = assert(journal.open(path)), assert(journal.open(path, function(r) seen[#seen + 1] = r.id end))
    one:add "a"
    other:add "b"
    assert.is_true(other:has "a")
    assert.is_true(one:has "b")
    assert.same({ "a", "b" }, seen)
  end)

  it("keeps the newest ids only, in memory and on disk", function()
    local path = path_in_folder()
    local j = assert(journal.open(path, nil, { remember = 10 }))
    for i = 1, 95 do j:add("e" .. i) end
    assert.is_false(j:has "e80")
    for i = 86, 95 do assert.is_true(j:has("e" .. i)) end
    assert.is_true(count_lines(path) <= 10)
    assert.is_true(count_lines(path .. ".old") <= 10)
    local again = assert(journal.open(path, nil, { remember = 10 }))
    for i = 86, 95 do assert.is_true(again:has("e" .. i)) end
  end)

  it("goes on in the new file when another process has begun one", function()
    local path = path_in_folder()
    local one = assert(journal.open(path, nil, { remember = 3 }))
    local other = assert(journal.open(path, nil, { remember = 3 }))
    for i = 1, 4 do one:add("e" .. i) end
    other:add "x"
    assert.is_true(one:has "x")
    assert.is_true(other:has "e4")
  end)

  it("remembers in memory without a path", function()
    local seen = {}
    local j = assert(journal.open(nil, function(r) seen[#seen + 1] = r.id end, { remember = 2 }))
    for _, id in ipairs { "a", "b", "c" } do j:add(id) end
    assert.same({ false, true, true }, { j:has "a", j:has "b", j:has "c" })
    assert.same({ "a", "b", "c" }, seen)
  end)

  it("refuses a file that is none, or that cannot be written", function()
    local path = path_in_folder()
    write(path, "wb", "hello\n")
    local j, err = journal.open(path)
    assert.is_nil(j)
    assert.matches('is not a journal: its first line is "hello"', err, 1, true)
    j, err = journal.open(program.folder() .. "/missing/j.jsonl")
    assert.is_nil(j)
    assert.matches("No such file", err)
  end)

  it("raises when a line cannot be written: what is not remembered must not be acknowledged", function()
    local path = path_in_folder()
    local j = assert(journal.open(path))
    os.remove(path)
    os.execute("mkdir " .. path)
    local ok, message = pcall(j.add, j, "a")
    assert.is_false(ok)
    assert.matches("cannot write " .. path, message, 1, true)
    assert.is_false(j:has "a")
  end)
end)
