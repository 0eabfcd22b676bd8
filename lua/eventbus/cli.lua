--- The command `eventbus`: it reads the command line and hands over to one module per command.
--
-- A command is a module eventbus.cli.command.NAME: { summary =, define = function(parser), run = function(args, cli) }.
-- `define` adds options to an argparse parser and must load nothing heavy; `run` does the work and returns an exit code,
-- nil for done. It writes through `cli.out` and `cli.err` (eventbus.cli.terminal), ends early with eventbus.cli.exit, and
-- raises the library's errors as they are. Groups (topology, dlq, broker) define their own sub-commands; `args.action`
-- then names the one chosen. A command with a contract of its own for failures has `failed = function(failure, cli)`,
-- which reports one and returns the exit code.

local exit = require "eventbus.cli.exit"
local redact = require "eventbus.redact"
local terminal = require "eventbus.cli.terminal"

local cli = {}

-- In the order of the help.
cli.COMMANDS = {
  "run", "exec", "new", "publish", "tail", "events", "topology", "dlq", "monitor", "check", "doctor", "broker", "completion",
}

local DESCRIPTION = [[
Reliable events on RabbitMQ: run consumers, publish and watch events, keep
topology and dead letters in order.]]

local EPILOG = [[
The broker is $RABBITMQ_URL (amqp://guest:guest@localhost:5672 unless set);
--url beats it. RABBITMQ_PREFETCH, RABBITMQ_RETRY_COUNT, RABBITMQ_RETRY_DELAY
and RABBITMQ_DLQ_TTL say how consumers work and fail.

Exit codes: 0 done; 1 not done, or something found; 2 wrong command line;
3 broker out of reach; 130 interrupted.]]

local function load_command(name)
  return require("eventbus.cli.command." .. name)
end

-- A value that cannot be meant is told with the option it was for.
local function name_mistakes(parser)
  local function wrap(element, name)
    local convert = element._convert
    if type(convert) ~= "function" then return end
    element._convert = function(text)
      local value, expected = convert(text)
      if value ~= nil then return value end
      return nil, ("%s: %s"):format(name, expected or ("it cannot be %q"):format(text))
    end
  end
  for _, option in ipairs(parser._options) do wrap(option, option._aliases[#option._aliases]) end
  for _, argument in ipairs(parser._arguments) do wrap(argument, argument._name) end
  for _, command in ipairs(parser._commands) do name_mistakes(command) end
end

-- What a flag prints, and the end: a full disk is no success.
local function print_and_end(text)
  local ok, err = io.stdout:write(text, "\n")
  if ok then ok, err = io.stdout:flush() end
  if not ok then exit.unwritable(err) end
  os.exit(exit.OK, true)
end

local function print_help(parser)
  for _, option in ipairs(parser._options) do
    for _, alias in ipairs(option._aliases) do
      if alias == "--help" then option:action(function() print_and_end(parser:get_help()) end) end
    end
  end
  for _, command in ipairs(parser._commands) do print_help(command) end
end

--- The parser of the whole command line: help, completion and the man page come from it too.
---@return table
function cli.parser()
  local argparse = require "argparse"
  local parser = argparse("eventbus", DESCRIPTION, EPILOG)
  parser:require_command(true):command_target("command"):help_max_width(80)
  parser:flag("-V --version", "Print the version."):action(function()
    print_and_end(require("eventbus")._VERSION)
  end)
  for _, name in ipairs(cli.COMMANDS) do
    local command = load_command(name)
    local sub = parser:command(name, command.summary):summary(command.summary)
    command.define(sub)
  end
  name_mistakes(parser)
  print_help(parser)
  function parser.error(at, message) exit.misuse(message, at:get_usage()) end
  return parser
end

local function tell(err, failure)
  if not failure.message then return end
  err:line("eventbus: ", failure.message)
  if failure.hint then err:line("  ", (failure.hint:gsub("\n", "\n  "))) end
end

-- What was raised, with where, if it is none of ours.
local function traced(value)
  if type(value) == "table" then return value end
  return { bug = debug.traceback(tostring(value), 2) }
end

-- What ended a command early, as a failure with a code; a bug of ours included.
local function failure_of(raised)
  if exit.is_failure(raised) then return raised end
  if type(raised) == "table" and raised.code and raised.message then return exit.of_error(raised) end
  local said = type(raised) == "table" and raised.bug or tostring(raised)
  if said:find("interrupted!", 1, true) then return { code = exit.INTERRUPTED } end
  return { code = exit.BUG, message = "this should not have happened, please report it:\n" .. said }
end

-- A URL typed where something else was meant is quoted back, and what is printed may end in a log.
local function presentable(failure)
  for _, field in ipairs { "message", "hint" } do
    if failure[field] then failure[field] = redact.urls(failure[field]) end
  end
  return failure
end

-- The command that a command line names, when there is one; it need not be right otherwise.
local function named(argv)
  for _, word in ipairs(argv) do
    if not word:find("^%-") then
      for _, name in ipairs(cli.COMMANDS) do
        if name == word then return select(2, pcall(load_command, name)) end
      end
      return nil
    end
  end
end

--- Runs a command line; its exit code.
---@param argv string[]
---@return integer
function cli.main(argv)
  local self = { argv = argv, out = terminal.new(io.stdout, 1), err = terminal.new(io.stderr, 2) }
  local ok, result = xpcall(function()
    local args = cli.parser():parse(argv)
    local code = load_command(args.command).run(args, self)
    self.out:flush()
    return code
  end, traced)
  if ok then return result or exit.OK end
  local failure, command = presentable(failure_of(result)), named(argv)
  if type(command) == "table" and command.failed and failure.message then return command.failed(failure, self) end
  tell(self.err, failure)
  return failure.code
end

return cli
