--- broker: real RabbitMQ nodes for the tests, private, on free loopback ports, in a temporary folder.
---
---     local b = require("spec.support.broker").shared()
---     local url = b:new_vhost()            -- an empty virtual host of one's own
---
--- `shared()` is one node for the whole run; leave it running and healthy. A test that kills, freezes or alarms takes
--- its own: `local b = broker.new { heartbeat = 2 }`, and `b:stop()` at the end.
--- However this process ends, a guard process stops every broker and removes its folder. tools/run-tests has one for the
--- folder it names in EVENTBUS_SPEC_BROKER: the node there serves several of these processes, one after the other.

local wait = require "spec.support.wait"

local broker = {}

local Broker = {}
Broker.__index = Broker

local here = debug.getinfo(1, "S").source:match("^@(.*)spec/support/broker%.lua$") or "./"
local script = here .. "bin/eventbus-broker"

local function quote(s) return "'" .. tostring(s):gsub("'", "'\\''") .. "'" end

-- Output and exit code of a shell command. On 5.1 the handle's close does not tell the code, so the shell prints it.
local function run(command)
  local pipe = assert(io.popen("exec 2>&1; " .. command .. "\necho \"rc=$?\"", "r"))
  local out = pipe:read("*a")
  pipe:close()
  local text, code = out:match("^(.*)rc=(%d+)\n$")
  if not text then return out, -1 end
  return text, tonumber(code)
end

local function must(command)
  local out, code = run(command)
  if code ~= 0 then error(("%s\nfailed with %d:\n%s"):format(command, code, out), 3) end
  return out
end

local function escape(s)
  return (s:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- An Erlang binary with exactly these bytes.
local function binary(s)
  local bytes = {}
  for i = 1, #s do bytes[i] = s:byte(i) end
  return "<<" .. table.concat(bytes, ",") .. ">>"
end

local function read_env(self, text)
  for key, value in text:gmatch("([%u_]+)=([^\n]*)\n") do self.env[key] = value end
  self.pid = tonumber(self.env.PID)
  self.node = self.env.NODE
  self.port = tonumber(self.env.AMQP_PORT)
  self.tls_port = tonumber(self.env.AMQPS_PORT)
  self.url = self.env.AMQP_URL
  self.tls_url = self.env.AMQPS_URL
  self.tls_dir = self.env.TLS_DIR
  self.management_url = self.env.MANAGEMENT_URL
end

-- We hold the writing end. When it closes, for whatever reason, the guard acts; a session of its own keeps it out of
-- the way of signals to our process group.
local function guarded(dir)
  local setsid = select(2, run("command -v setsid")) == 0 and "setsid " or ""
  return assert(io.popen(("exec %sbash %s guard %s >/dev/null 2>&1"):format(setsid, quote(script), quote(dir)), "w"))
end

--- A node of one's own. Options: tls, management (booleans), heartbeat, port (numbers), plugins (a list), set (table of
--- rabbitmq.conf settings), start = false (only prepares; call `b:start()`), dir (somebody else guards it).
function broker.new(options)
  options = options or {}
  local dir = options.dir or must("mktemp -d \"${TMPDIR:-/tmp}/eventbus-broker.XXXXXX\""):gsub("%s+$", "")
  local self = setmetatable({ dir = dir, env = {}, vhosts = 0 }, Broker)
  local flags = {}
  if options.tls then flags[#flags + 1] = "--tls" end
  if options.management then flags[#flags + 1] = "--management" end
  if options.heartbeat then flags[#flags + 1] = "--heartbeat " .. quote(options.heartbeat) end
  if options.port then flags[#flags + 1] = "--port " .. quote(options.port) end
  for _, name in ipairs(options.plugins or {}) do flags[#flags + 1] = "--plugin " .. quote(name) end
  for key, value in pairs(options.set or {}) do
    flags[#flags + 1] = "--set " .. quote(key .. "=" .. tostring(value))
  end
  self.flags = table.concat(flags, " ")
  self.guard = not options.dir and guarded(dir)
  if options.start ~= false then self:start() end
  return self
end

--- The node of the whole run, with TLS and the management API; started on first use.
--- busted reloads modules for each file; the registry is what stays.
function broker.shared()
  local registry = debug.getregistry()
  local shared = registry["eventbus.spec.broker"]
  if not shared then
    local ok
    ok, shared = pcall(broker.new, { tls = true, management = true, dir = os.getenv "EVENTBUS_SPEC_BROKER" })
    -- A broker that cannot start must not cost every test its deadline again.
    if not ok then shared = { broken = "the shared broker did not start: " .. tostring(shared) } end
    registry["eventbus.spec.broker"] = shared
  end
  if shared.broken then error(shared.broken, 2) end
  return shared
end

--- Starts it, again after `kill` or `halt`: same ports, same durable data. Returns once it takes connections.
function Broker:start()
  read_env(self, must(("%s start %s %s"):format(quote(script), quote(self.dir), self.flags)))
end

--- Starts several at once.
function broker.start_all(list)
  local commands = {}
  for i, each in ipairs(list) do
    commands[i] = ("%s start %s %s --quiet &"):format(quote(script), quote(each.dir), each.flags)
  end
  run(table.concat(commands, "\n") .. "\nwait")
  -- Those that run already only say so; one that does not says why.
  for _, each in ipairs(list) do each:start() end
end

--- An orderly end; `start` brings it back.
function Broker:halt()
  must(("%s stop %s"):format(quote(script), quote(self.dir)))
end

--- kill -9, as a crash or a power cut would.
function Broker:kill()
  must(("%s kill %s"):format(quote(script), quote(self.dir)))
end

-- A thread stops when it next gets the processor: on a busy machine the others answer a publish until then.
local function stands_still(pid)
  local out = run(("if [ -d /proc/%d/task ]; then sed 's/.*) //' /proc/%d/task/*/stat; else ps -o stat= -p %d; fi")
    :format(pid, pid, pid))
  return out:find "^T" and not ("\n" .. out):find "\n[^T\n]"
end

--- The process stands still; its sockets stay open. As a stalled machine or network looks to a client.
function Broker:freeze()
  must("kill -STOP " .. self.pid)
  wait.wait_until(function() return stands_still(self.pid) end, 30, "the broker stands still")
end
function Broker:thaw() must("kill -CONT " .. self.pid) end

--- Ends it for good and removes its folder.
function Broker:stop()
  local guard = self.guard
  self.guard = nil
  if guard then guard:close() end
end

--- True while the server process lives.
function Broker:running()
  local _, code = run(("%s status %s --quiet"):format(quote(script), quote(self.dir)))
  return code == 0
end

--- rabbitmqctl against this node: output, and whether it succeeded.
function Broker:ctl(...)
  local args = {}
  for i = 1, select("#", ...) do args[i] = quote((select(i, ...))) end
  local out, code = run(("%s ctl %s %s"):format(quote(script), quote(self.dir), table.concat(args, " ")))
  return out, code == 0
end

--- Evaluates Erlang in the node (20 ms, against 300 ms and more of rabbitmqctl) and returns the printed term.
function Broker:eval(expression)
  local out, code = run(("%s eval %s %s"):format(quote(script), quote(self.dir), quote(expression)))
  if code ~= 0 then error("eval failed: " .. out .. "\nof: " .. expression, 2) end
  return (out:gsub("\n$", ""))
end

--- Evaluates Erlang that yields iodata, and returns those bytes.
function Broker:query(expression)
  -- Hexadecimal, because what erl_call prints of a binary or a string depends on what is in it.
  local out = self:eval(([=[
    [$x | lists:append([io_lib:format("~2.16.0b", [B]) || <<B>> <= iolist_to_binary(begin %s end)])]]=]):format(expression))
  -- rabbitmqctl, where erl_call is missing, breaks a long string into several.
  local hex = table.concat({ out:match('^"x.*"$') or error("unexpected answer: " .. out, 2) }):gsub("[^%x]", "")
  return (hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end))
end

--- The AMQP URL of a virtual host, as guest unless told otherwise.
function Broker:url_of(vhost, user, password)
  return ("amqp://%s:%s@127.0.0.1:%d/%s"):format(escape(user or "guest"), escape(password or "guest"), self.port,
    escape(vhost))
end

--- A new, empty virtual host: its URL and its name. The broker may have those of other processes.
function Broker:new_vhost()
  local said = self:eval(([[Free = fun Next(N) ->
      Name = <<"test-", (integer_to_binary(N))/binary>>,
      case rabbit_vhost:exists(Name) of true -> Next(N + 1); false -> {N, Name} end
    end,
    {Number, Vhost} = Free(%d),
    rabbit_vhost:add(Vhost, <<"spec">>),
    ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, Vhost, <<".*">>, <<".*">>, <<".*">>, <<"spec">>),
    Number]]):format(self.vhosts + 1))
  self.vhosts = tonumber(said)
  local name = ("test-%d"):format(self.vhosts)
  return self:url_of(name), name
end

--- Removes a virtual host; its connections are closed by the server.
function Broker:delete_vhost(name)
  self:eval(("rabbit_vhost:delete(%s, <<\"spec\">>)"):format(binary(name)))
end

--- A user. `permissions` = { vhost = "/", configure = ".*", write = ".*", read = ".*" }; false for none at all.
function Broker:user(name, password, permissions)
  self:eval(("ok = rabbit_auth_backend_internal:add_user(%s, %s, <<\"spec\">>)"):format(binary(name), binary(password)))
  if permissions == false then return end
  local p = permissions or {}
  self:eval(("ok = rabbit_auth_backend_internal:set_permissions(%s, %s, %s, %s, %s, <<\"spec\">>)"):format(binary(name),
    binary(p.vhost or "/"), binary(p.configure or ".*"), binary(p.write or ".*"), binary(p.read or ".*")))
end

local function resource(vhost, kind, name)
  return ("rabbit_misc:r(%s, %s, %s)"):format(binary(vhost), kind, binary(name))
end

--- A queue as the server sees it now, not as statistics saw it seconds ago; nil when there is none.
--- { messages, messages_ready, messages_unacknowledged, consumers, durable, type, state, arguments = { [name] = text } }
function Broker:queue(vhost, name)
  local text = self:query(([=[
    case rabbit_amqqueue:lookup(%s) of
      {error, not_found} -> [];
      {ok, Q} ->
        Info = rabbit_amqqueue:info(Q, [messages, messages_ready, messages_unacknowledged, consumers, durable, type,
          state, arguments]),
        [case Item of
           {arguments, Args} -> [["arguments.", K, "=",
             case V of _ when is_binary(V) -> V; _ -> io_lib:format("~0p", [V]) end, "\n"] || {K, _, V} <- Args];
           {type, Type} -> ["type=", re:replace(atom_to_list(Type), "rabbit_(.*)_queue", "\\1"), "\n"];
           {K, V} -> io_lib:format("~s=~0p~n", [K, V])
         end || Item <- Info]
    end]=]):format(resource(vhost, "queue", name)))
  if text == "" then return nil end
  local queue = { arguments = {} }
  for key, value in text:gmatch("([^=\n]+)=([^\n]*)\n") do
    local argument = key:match("^arguments%.(.*)$")
    if argument then
      queue.arguments[argument] = value
    elseif value == "true" or value == "false" then
      queue[key] = value == "true"
    else
      queue[key] = tonumber(value) or value
    end
  end
  return queue
end

--- A durable classic queue without arguments, behind the clients' backs. It is on the disk when this returns: the server
--- itself writes a moment later, and a kill in between would lose it.
function Broker:declare_queue(vhost, name)
  self:eval(("element(1, rabbit_amqqueue:declare(%s, true, false, [], none, <<\"spec\">>)), catch mnesia:sync_log()")
    :format(resource(vhost, "queue", name)))
end

--- Deletes a queue behind its consumers' backs: they get basic.cancel.
function Broker:delete_queue(vhost, name)
  self:eval(("{ok, Q} = rabbit_amqqueue:lookup(%s), {ok, _} = rabbit_amqqueue:delete(Q, false, false, <<\"spec\">>), ok")
    :format(resource(vhost, "queue", name)))
end

-- The rest of a list comprehension over connections P.
local function of_vhost(vhost)
  if not vhost then return "" end
  return (", (catch rabbit_reader:info(P, [vhost])) =:= [{vhost, %s}]"):format(binary(vhost))
end

--- Number of client connections, of one virtual host or of all.
function Broker:connections(vhost)
  return tonumber(self:eval("length([P || P <- rabbit_networking:connections()" .. of_vhost(vhost) .. "])"))
end

--- The server closes all client connections, or those of one virtual host, with 320 and this reason.
function Broker:close_connections(reason, vhost)
  self:eval(("[rabbit_networking:close_connection(P, binary_to_list(%s)) || P <- rabbit_networking:connections()%s], ok")
    :format(binary(reason or "closed by the test"), of_vhost(vhost)))
end

--- The memory alarm: on, every publishing connection gets connection.blocked and its socket is no longer read.
function Broker:alarm(on)
  if on then
    self:eval("ok = vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1000000})")
  else
    self:eval("ok = vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
  end
  wait.wait_until(function()
    return (self:eval("lists:member({{resource_limit, memory, node()}, []}, rabbit_alarm:get_alarms())") == "true")
      == (on and true or false)
  end, 30, "the memory alarm is " .. (on and "on" or "off"))
end

return broker
