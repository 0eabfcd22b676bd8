-- server: an nginx with the Lua module, in a folder of its own, as whoever starts it, on a free port of 127.0.0.1.
--
--     local settings = server.prepare(folder, "examples/openresty/nginx.conf", { NAME = "value" })
--     children:start("nginx", server.command(folder), { RABBITMQ_URL = url })       -- settings.url, settings.port
--     children.signal(child, "HUP"), "QUIT"
--
-- In the template @MAIN@ stands for the first lines of any such file, @HTTP@ for those of its http block, @NAME@ for a
-- value.

local socket = require "socket"

local server = {}

local MODULES = { "/usr/lib/nginx/modules", "/usr/lib64/nginx/modules" }

local MAIN = [[
@MODULES@
daemon off;
pid nginx.pid;
error_log error.log notice;
env RABBITMQ_URL;
events { worker_connections 1024; }]]

local HTTP = [[
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  lua_package_path "@ROOT@/lua/?.lua;@ROOT@/lua/?/init.lua;@ROOT@/examples/?.lua;/usr/share/lua/5.1/?.lua;;";
  lua_package_cpath "@ROOT@/build/luajit/?.so;;";]]

local function read_line(command)
  local pipe = assert(io.popen(command, "r"))
  local line = pipe:read "*l"
  pipe:close()
  return line
end

-- Debian loads them; OpenResty has them built in.
local function modules()
  for _, folder in ipairs(MODULES) do
    local file = io.open(folder .. "/ngx_http_lua_module.so", "rb")
    if file then
      file:close()
      return ("load_module %s/ndk_http_module.so;\nload_module %s/ngx_http_lua_module.so;"):format(folder, folder)
    end
  end
  return ""
end

local function free_port()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  listener:close()
  return port
end

--- Writes nginx.conf into the folder: { port =, url = }.
function server.prepare(folder, template, values)
  local file = assert(io.open(template, "rb"))
  local text = file:read "*a"
  file:close()
  local port = free_port()
  local all = { MAIN = MAIN, HTTP = HTTP, MODULES = modules(), ROOT = assert(read_line "pwd -P"), PORT = tostring(port) }
  for name, value in pairs(values or {}) do all[name] = tostring(value) end
  local replaced
  repeat text, replaced = text:gsub("@(%u+)@", all) until not text:find "@%u+@" or replaced == 0
  file = assert(io.open(folder .. "/nginx.conf", "wb"))
  file:write(text)
  file:close()
  return { port = port, url = "http://127.0.0.1:" .. port }
end

--- The command that runs it, in the foreground. Raises when there is no nginx.
function server.command(folder)
  local path = read_line "PATH=$PATH:/usr/sbin:/usr/local/openresty/nginx/sbin; command -v nginx || command -v openresty"
  if not path then error("no nginx; type: tools/deps --lua jit nginx", 0) end
  return { path, "-p", folder, "-e", "error.log", "-c", "nginx.conf" }
end

return server
