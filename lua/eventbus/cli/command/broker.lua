--- eventbus broker: a private RabbitMQ in a folder, for development. The work is done by the script eventbus-broker, which
-- lies beside this command.

local exit = require "eventbus.cli.exit"

local broker = { summary = "Start, stop or look at a private RabbitMQ in a folder, for development." }

local function default_folder()
  local data = os.getenv("XDG_DATA_HOME")
  if not data or data == "" then data = (os.getenv("HOME") or ".") .. "/.local/share" end
  return data .. "/eventbus/broker"
end

local function folder_argument(parser)
  parser:argument("folder", "Where it keeps all it has; default: ~/.local/share/eventbus/broker."):args "?"
end

function broker.define(parser)
  parser:require_command(true):command_target("action")
  parser:epilog([[
It needs no root and listens on 127.0.0.1 only. Stopped and started again, it is
the same broker with the same durable data.
Examples:
  eval "$(eventbus broker start --env)"    # sets RABBITMQ_URL and the like
  eventbus broker stop]])
  local start = parser:command("start", "Start it, or say that it runs already."):summary("Start it.")
  folder_argument(start)
  start:option("--port", "AMQP port; default: a free one."):convert(tonumber):argname("N")
  start:option("--heartbeat", "Heartbeat that it suggests, in seconds."):convert(tonumber):argname("N")
  start:flag("--tls", "Speak TLS too, with certificates made in the folder.")
  start:flag("--no-management", "Without the management API and its web page.")
  start:option("--plugin", "A plugin that comes with RabbitMQ; may be repeated."):argname("NAME"):count "*"
  start:option("--set", "A line of rabbitmq.conf; may be repeated."):argname("KEY=VALUE"):count "*"
  start:flag("--env", "Print shell commands that set RABBITMQ_URL and RABBITMQ_MANAGEMENT_URL, nothing else.")
  start:flag("--json", "Print JSON.")
  local stop = parser:command("stop", "Stop it; its data stays."):summary("Stop it.")
  folder_argument(stop)
  stop:flag("--now", "Without the orderly end.")
  local status = parser:command("status", "Say whether it runs, and where; exit code 1 when it does not.")
    :summary("Does it run, and where?")
  folder_argument(status)
  status:flag("--json", "Print JSON.")
end

local function quote(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

-- Beside this command, or wherever the PATH has it.
local function script()
  local folder = arg and arg[0] and arg[0]:match("^(.*/)[^/]*$") or "./"
  if exists(folder .. "eventbus-broker") then return "bash " .. quote(folder .. "eventbus-broker") end
  return "eventbus-broker"
end

-- Output and exit code; what it complains of goes to stderr as it comes.
local function call(words)
  for i, word in ipairs(words) do words[i] = quote(word) end
  local pipe = assert(io.popen(("%s %s; echo \"rc=$?\""):format(script(), table.concat(words, " ")), "r"))
  local text = pipe:read("*a")
  pipe:close()
  local out, code = text:match("^(.*)rc=(%d+)\n$")
  return out or text, tonumber(code) or 1
end

local function values_of(text)
  local values = {}
  for key, value in text:gmatch("([%u_]+)=([^\n]*)\n") do values[key] = value end
  return values
end

local function facts(folder, values)
  return { folder = folder, running = values.PID ~= nil, pid = tonumber(values.PID), url = values.AMQP_URL,
    tls_url = values.AMQPS_URL, tls_folder = values.TLS_DIR, management_url = values.MANAGEMENT_URL, node = values.NODE }
end

local function tell(cli, args, known)
  if args.json then
    return cli.out:line(assert(require("eventbus.json").encode(known, { sort_keys = true })))
  end
  cli.out:line("running in ", known.folder, ", pid ", tostring(known.pid))
  for _, row in ipairs { { "AMQP", known.url }, { "TLS", known.tls_url }, { "certificates", known.tls_folder },
    { "management", known.management_url } } do
    if row[2] then cli.out:line(("  %-13s%s"):format(row[1], row[2])) end
  end
end

local function start(args, cli, folder)
  local words = { "start", folder }
  local function add(flag, value)
    words[#words + 1] = flag
    if value ~= nil then words[#words + 1] = ("%s"):format(value) end
  end
  if args.port then add("--port", args.port) end
  if args.heartbeat then add("--heartbeat", args.heartbeat) end
  if args.tls then add("--tls") end
  if not args.no_management then add("--management") end
  for _, name in ipairs(args.plugin) do add("--plugin", name) end
  for _, line in ipairs(args.set) do add("--set", line) end
  local out, code = call(words)
  if code ~= 0 then exit.fail("the broker did not start", "its log is in " .. folder) end
  local known = facts(folder, values_of(out))
  if args.env then
    cli.out:line("export RABBITMQ_URL=", quote(known.url))
    if known.management_url then cli.out:line("export RABBITMQ_MANAGEMENT_URL=", quote(known.management_url)) end
    return
  end
  tell(cli, args, known)
  if not args.json then cli.out:line("use it: export RABBITMQ_URL=", quote(known.url)) end
end

local function status(args, cli, folder)
  local out, code = call { "status", folder }
  local known = facts(folder, code == 0 and values_of(out) or {})
  if known.running then return tell(cli, args, known) end
  if args.json then
    cli.out:line(assert(require("eventbus.json").encode(known, { sort_keys = true })))
  else
    cli.out:line("no broker runs in ", folder)
  end
  return exit.FAILED
end

local function stop(args, cli, folder)
  local words = { "stop", folder }
  if args.now then words[3] = "--now" end
  local _, code = call(words)
  if code ~= 0 then exit.fail("the broker did not stop") end
  cli.out:line("no broker runs in ", folder)
end

local ACTIONS = { start = start, stop = stop, status = status }

function broker.run(args, cli)
  -- Not shown: it may hold a password.
  if args.folder and args.folder:find("://", 1, true) then
    exit.misuse(("broker %s takes the folder of a private broker, not a URL"):format(args.action),
      "give a path, or none; a broker that has a URL is used as it is: export RABBITMQ_URL=...")
  end
  return ACTIONS[args.action](args, cli, args.folder or default_folder())
end

return broker
