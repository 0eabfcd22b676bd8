--- command: bin/eventbus as a user runs it: a process of its own, its two streams, its exit code.
---
---     local r = command.run({ "events", "list" }, { env = { RABBITMQ_URL = url }, input = "x" })   -- r.out, r.err, r.code
---     local text, code = command.pty({ "monitor", "--once" })      -- in a pseudo-terminal: colours and bars are there
---     local t = command.terminal { "monitor" }      -- a pseudo-terminal that goes on: t:keys "q"; t:resize(60, 10)
---     local p = command.start({ "run", "bot.lua" }, environment)   -- a program (spec/support/program.lua): goes on

local program = require "spec.support.program"
local wait = require "spec.support.wait"

local command = {}

local function quote(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- The words that start it under this Lua.
function command.words(arguments)
  local words = { program.lua(), "bin/eventbus" }
  for _, word in ipairs(arguments) do words[#words + 1] = word end
  return words
end

local function line_of(arguments, environment)
  local words = { "env", "LUA_PATH=" .. package.path, "LUA_CPATH=" .. package.cpath }
  for name, value in pairs(environment or {}) do words[#words + 1] = name .. "=" .. value end
  for _, word in ipairs(command.words(arguments)) do words[#words + 1] = word end
  for i, word in ipairs(words) do words[i] = quote(word) end
  return table.concat(words, " ")
end

--- Runs it to its end, killed after `seconds` (60). Options: env, input (text for stdin), stdin (or a path), seconds.
---@return { out: string, err: string, code: integer }
function command.run(arguments, options)
  options = options or {}
  local folder = program.folder()
  write(folder .. "/in", options.input or "")
  os.execute(("timeout -k 5 %d %s <%s >%s/out 2>%s/err; echo $? >%s/code"):format(options.seconds or 60,
    line_of(arguments, options.env), options.stdin or folder .. "/in", folder, folder, folder))
  return { out = read(folder .. "/out"), err = read(folder .. "/err"), code = tonumber(read(folder .. "/code")) }
end

--- The same in a pseudo-terminal of `columns` (80): all it shows, and its exit code. Options as for run, without input.
---@return string text, integer code
function command.pty(arguments, options)
  options = options or {}
  local folder = program.folder()
  write(folder .. "/line", ("stty cols %d rows 24; exec %s"):format(options.columns or 80,
    line_of(arguments, options.env)))
  os.execute(("timeout -k 5 %d script -qec %s /dev/null </dev/null >%s/out 2>&1; echo $? >%s/code"):format(
    options.seconds or 60, quote("sh " .. folder .. "/line"), folder, folder))
  return read(folder .. "/out"), tonumber(read(folder .. "/code"))
end

local Terminal = {}
Terminal.__index = Terminal

--- Starts it in a pseudo-terminal of 80 × 24. `:output()` is all that was shown so far. Once it has ended, a last line says
--- its exit code and how the terminal was left: "ended with 0, echo" (or "-echo").
function command.terminal(arguments, options)
  options = options or {}
  local folder = program.folder()
  os.execute("mkfifo " .. folder .. "/keys")
  write(folder .. "/line", ("stty cols 80 rows 24; tty >%s/tty; sh -c 'echo $$ >%s/pid; exec \"$@\"' sh %s\n"
    .. "echo ended with $?, $(stty -a | grep -o -e '-*echo ' | head -n 1)\n"):format(folder, folder,
    line_of(arguments, options.env)))
  local self = setmetatable({ folder = folder }, Terminal)
  self.program = program.start("terminal", { "sh", "-c", ("exec script -qfec %s /dev/null <%s/keys"):format(
    quote("sh " .. folder .. "/line"), folder) })
  -- Waits for the reader, and keeps it from an end of file.
  self.input = assert(io.open(folder .. "/keys", "w"))
  self.input:setvbuf("no")
  return self
end

function Terminal:keys(text) self.input:write(text) end
function Terminal:output() return self.program:output() end

function Terminal:resize(columns, rows)
  os.execute(("stty -F %s cols %d rows %d"):format(read(self.folder .. "/tty"):match("%S+"), columns, rows))
end

--- A signal to the command itself.
function Terminal:signal(name)
  os.execute(("kill -%s %s"):format(name, read(self.folder .. "/pid"):match("%d+")))
end

--- What it said at its end ("0, echo"); nil when it has not ended after `seconds`.
function Terminal:ended(seconds)
  local deadline = wait.now() + seconds
  repeat
    local said = self:output():match("ended with ([^\r\n]+)")
    if said then
      self.input:close()
      self.program:wait(5)
      return (said:gsub("%s+$", ""))
    end
    wait.sleep(0.02)
  until wait.now() > deadline
  self.program:stop()
end

--- Starts it; it goes on until it ends, or is stopped (spec/support/program.lua).
function command.start(arguments, environment)
  return program.start("eventbus-" .. arguments[1], command.words(arguments), environment)
end

return command
