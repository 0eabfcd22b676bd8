--- hosts: HAProxy, Tarantool and Prosody, the real ones, each in a folder of its own, as whoever runs the tests, on a free
--- port of 127.0.0.1, with the module built for its Lua.
---
---     local h = hosts.start("haproxy", code, url)      -- code: what the host runs, see the templates below
---     h.port, h.program (spec/support/program.lua), h:log(), h:get(path) -> status, body

local socket = require "socket"
local program = require "spec.support.program"

local hosts = {}

local Host = {}
Host.__index = Host

local SECONDS = 30

local HAPROXY = [[
global
  insecure-fork-wanted
  nbthread @THREADS@
  lua-prepend-path @ROOT@/lua/?.lua
  lua-prepend-path @ROOT@/lua/?/init.lua
  lua-prepend-path @ROOT@/?.lua
  lua-prepend-path @BUILD@/?.so cpath
  lua-load @FOLDER@/code.lua
defaults
  timeout client 30s
  timeout server 30s
  timeout connect 30s
@CONFIG@]]

local PROSODY = [[
pidfile = "@FOLDER@/prosody.pid"
data_path = "@FOLDER@"
certificates = "@FOLDER@"
plugin_paths = { "@FOLDER@" }
modules_enabled = { "posix" }
modules_disabled = { "c2s", "s2s", "offline", "tls", "saslauth", "roster", "disco" }
run_as_root = true
http_ports = { @PORT@ }
http_interfaces = { "127.0.0.1" }
https_ports = {}
log = { info = "*console" }
VirtualHost "localhost"
  modules_enabled = { "notes" }
]]

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function line_of(command)
  local pipe = assert(io.popen(command, "r"))
  local line = pipe:read "*l"
  pipe:close()
  return line or ""
end

local function free_port()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  listener:close()
  return port
end

-- Where the module for a host's Lua is.
local BUILD = {
  haproxy = function()
    return "lua" .. (line_of("PATH=$PATH:/usr/sbin; haproxy -vv"
      .. " | sed -n 's/^Built with Lua version : Lua \\(5\\.[0-9]\\).*/\\1/p'"):match "5%.%d" or "?")
  end,
  tarantool = function() return "luajit" end,
  prosody = function()
    return "lua" .. (line_of 'head -n 1 "$(command -v prosody)"':match "lua(5%.%d)" or "?")
  end,
}

local PREPARE = {
  haproxy = function(values)
    write(values.FOLDER .. "/code.lua", values.CODE)
    write(values.FOLDER .. "/haproxy.cfg", (HAPROXY:gsub("@(%u+)@", values)))
    return { line_of "PATH=$PATH:/usr/sbin; command -v haproxy", "-db", "-f", values.FOLDER .. "/haproxy.cfg" }
  end,
  tarantool = function(values)
    local paths = ('package.path = "%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;" .. package.path\n'):gsub("%%s", values.ROOT)
    paths = paths .. ("package.cpath = %q .. package.cpath\n"):format(values.BUILD .. "/?.so;")
    -- It shows no more of its command line than the file's name.
    write(values.FOLDER .. "/eventbus-spec.lua", paths .. "io.stdout:setvbuf 'line'\n" .. values.CODE)
    return { "env", "-C", values.FOLDER, "tarantool", values.FOLDER .. "/eventbus-spec.lua" }
  end,
  prosody = function(values)
    write(values.FOLDER .. "/mod_notes.lua", values.CODE)
    write(values.FOLDER .. "/prosody.cfg.lua", (PROSODY:gsub("@(%u+)@", values)))
    return { "prosody", "-F", "--config", values.FOLDER .. "/prosody.cfg.lua" }
  end,
}

--- Starts a host with this code; `config` for what else its file has (HAProxy), `threads` of HAProxy.
function hosts.start(name, code, url, options)
  options = options or {}
  local root, port = line_of "pwd -P", free_port()
  local built = ("%s/build/%s"):format(root, BUILD[name]())
  local module = io.open(built .. "/eventbus/core.so", "rb")
  if not module then error(("%s: no module for its Lua in %s; type: make test-hosts"):format(name, built), 0) end
  module:close()
  local folder = program.folder()
  local values = { ROOT = root, BUILD = built, FOLDER = folder, PORT = tostring(port), CODE = code,
    THREADS = tostring(options.threads or 1), CONFIG = (options.config or ""):gsub("@PORT@", tostring(port)) }
  local command = PREPARE[name](values)
  local paths = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;;"):format(root, root, root)
  local started = program.start(name, command, { RABBITMQ_URL = url, LUA_PATH = paths, LUA_CPATH = built .. "/?.so;;" })
  return setmetatable({ name = name, port = port, folder = folder, program = started }, Host)
end

function Host:log()
  return self.program:output()
end

--- One request: its status, its body. Nil when nobody answers.
function Host:get(path, body)
  local client = socket.connect("127.0.0.1", self.port)
  if not client then return nil end
  client:settimeout(SECONDS)
  client:send(("%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"):format(body and "POST" or "GET", path,
    #(body or ""), body or ""))
  local answer = client:receive "*a" or ""
  client:close()
  return tonumber(answer:match "^HTTP/%S+ (%d+)"), answer:match "\r\n\r\n(.-)\n?$"
end

--- A block of docs/loops.md, by the heading before it and the language.
function hosts.recipe(heading, language)
  local file = assert(io.open("docs/loops.md", "rb"))
  local text = file:read "*a"
  file:close()
  return assert(text:match("\n## " .. heading .. "\n.-\n```" .. language .. "\n(.-)```"), "docs/loops.md has a recipe")
end

return hosts
