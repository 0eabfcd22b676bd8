-- The HTTP gateway of examples/openresty/ on a private RabbitMQ, until Ctrl-C. `make openresty`

local root = (arg[0]:match("^(.*)examples/openresty%.lua$") or "./"):gsub("^$", "./")
package.path = root .. "examples/?.lua;" .. package.path

local socket = require "socket"
local children = require "demo.children"
local server = require "openresty.server"

local quote = children.quote

local function read_command(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local folder = read_command('mktemp -d "${TMPDIR:-/tmp}/eventbus-openresty.XXXXXX"'):gsub("%s+$", "")
local group = children.new(folder)
local guard, nginx

local function broker_command(verb)
  return ("%s %s %s"):format(quote(root .. "bin/eventbus-broker"), verb, quote(folder .. "/broker"))
end

local function run()
  os.execute("mkdir -p " .. quote(folder .. "/broker"))
  -- When our end of this pipe closes, for whatever reason, the guard stops the broker and removes its folder.
  guard = assert(io.popen("exec " .. broker_command "guard" .. " >/dev/null 2>&1", "w"))
  print "starting a private RabbitMQ and nginx"
  local text = read_command(broker_command "start" .. " 2>&1")
  local url = text:match "AMQP_URL=(%S+)" or error(text, 0)
  local settings = server.prepare(folder, root .. "examples/openresty/nginx.conf")
  nginx = group:start("nginx", server.command(folder), { RABBITMQ_URL = url })
  local deadline = socket.gettime() + 20
  while not socket.connect("127.0.0.1", settings.port) do
    if children.ended(nginx) or socket.gettime() > deadline then
      error("nginx does not answer:\n" .. read_command("cat " .. quote(nginx.path)), 0)
    end
    socket.sleep(0.05)
  end
  print(([[

live events, for a browser  %s/
the same as a stream        curl -N %s/live
send one                    curl -i --data '{"order_id":"order_xyz"}' \
                              %s/events/order.processing
broker                      %s
nginx's log                 %s/error.log

Ctrl-C ends both.]]):format(settings.url, settings.url, settings.url, (url:gsub("//[^@]*@", "//")), folder))
  while not children.ended(nginx) do socket.sleep(0.2) end
  error("nginx has ended:\n" .. read_command("tail -n 20 " .. quote(folder .. "/error.log")), 0)
end

local _, err = pcall(run)
-- What the interpreter raises on Ctrl-C.
local interrupted = tostring(err):find("interrupted!", 1, true) ~= nil
if not interrupted then io.stderr:write(tostring(err), "\n") end
if nginx then children.signal(nginx, "QUIT") end
local failed = group:stop()
if guard then guard:close() end
group:close()
print(#failed == 0 and "nginx and the broker have ended" or "not ended in order: " .. table.concat(failed, ", "))
os.exit(interrupted and #failed == 0 and 0 or 1)
