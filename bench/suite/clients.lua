--- clients: what is compared: how each is started, what version it is, and which jobs it cannot do and why.

local shell = require "bench.suite.shell"

-- Debian's interpreters, for which its packages are; another python3 may come first on the PATH.
local python = shell.output "test -x /usr/bin/python3 && echo /usr/bin/python3 || command -v python3"

local function lua_of(version)
  return "tools/env " .. version .. " -- @lua"
end

local function lua_version(version)
  return shell.output(lua_of(version) .. " -v"):match "^%S+ [%d.]+" or "?"
end

local function package_version(name)
  return shell.output("dpkg-query -W -f '${Version}' " .. name):match "^[%d.]+" or "?"
end

local function node_version(name)
  local text = shell.output("cat build/bench/peers/node_modules/" .. name .. "/package.json")
  return text:match '"version": *"([^"]+)"' or "?"
end

local own = shell.output "cat src/eb_version.h":match 'EB_VERSION "([^"]+)"'
local function own_version() return "eventbus " .. own end
local function debian(package)
  return function() return package .. " " .. package_version(package) end
end
local NO_RECOVERY = "it has no recovery: the program opens everything again"
local NO_CLIENT = "it is a JSON module"

local function eventbus(name, version)
  return {
    name = name, ours = true, command = lua_of(version) .. " bench/peers/eventbus/client.lua",
    version = function() return ("eventbus %s on %s"):format(own, lua_version(version)) end,
  }
end

-- A JSON module and nothing else, of the Lua `version`.
local function json_module(name, module, version, what)
  local cannot = {}
  for _, job in ipairs { "publish", "publish-one", "publish-none", "consume", "latency", "topology", "consumers" } do
    cannot[job] = NO_CLIENT
  end
  return {
    name = name, command = lua_of(version) .. " bench/peers/lua-json/client.lua", arguments = " " .. module,
    cannot = cannot, json_only = true,
    version = function() return ("%s on %s"):format(what(), lua_version(version)) end,
  }
end

local SAME_JSON = "the same JSON as amqplib's: node's own"
local PYTHON_JSON = "the same JSON as pika's: Python's own"

local function with_json(cannot, reason)
  for _, what in ipairs { "encode", "decode" } do
    for _, size in ipairs { "small", "10k", "1m" } do cannot[what .. "-" .. size] = reason end
  end
  return cannot
end

return {
  {
    name = "plain C", floor = true, command = "build/bench/peers/c",
    version = function() return "rabbitmq-c " .. shell.output "pkg-config --modversion librabbitmq" end,
    cannot = with_json({ consumers = NO_RECOVERY }, "it prints and searches text, and has no JSON"),
  },
  eventbus("eventbus", "5.4"),
  eventbus("eventbus, LuaJIT", "jit"),
  {
    name = "php-amqp", json = "PHP json", command = "php -d memory_limit=-1 bench/peers/php-amqp/client.php",
    version = function() return ("ext-amqp %s on PHP %s"):format(shell.output "php -r 'echo phpversion(\"amqp\");'",
      shell.output "php -r 'echo PHP_VERSION;'") end,
    cannot = { consumers = NO_RECOVERY },
    notes = { latency = "its publisher, a process of its own, asks for no confirms: it could only stop and wait for them" },
  },
  {
    name = "Go amqp091-go", json = "Go encoding/json", command = "build/bench/peers/go",
    version = function() return ("amqp091-go %s on %s"):format(package_version "golang-github-rabbitmq-amqp091-go-dev",
      shell.output "go version":match "go[%d.]+") end,
    cannot = { consumers = NO_RECOVERY },
  },
  {
    name = "node amqplib", json = "node JSON", command = "node bench/peers/amqplib/client.js",
    version = function() return ("amqplib %s on node %s"):format(node_version "amqplib", shell.output "node --version") end,
  },
  {
    name = "node rabbitmq-client", command = "node bench/peers/rabbitmq-client/client.js",
    version = function() return ("rabbitmq-client %s on node %s"):format(node_version "rabbitmq-client",
      shell.output "node --version") end,
    cannot = with_json({}, SAME_JSON),
  },
  {
    name = "pika", json = "Python json", command = python .. " -B bench/peers/pika/client.py",
    version = function() return ("pika %s on %s"):format(package_version "python3-pika",
      shell.output(python .. " --version")) end,
    cannot = { consumers = NO_RECOVERY },
    notes = { publish = "SelectConnection; the other jobs use BlockingConnection",
      latency = "its publisher, a process of its own, asks for no confirms: it could only stop and wait for them" },
  },
  {
    name = "aio-pika", command = python .. " -B bench/peers/aio-pika/client.py",
    version = function() return ("aio-pika %s on %s"):format(package_version "python3-aio-pika",
      shell.output(python .. " --version")) end,
    cannot = with_json({}, PYTHON_JSON),
  },
  {
    name = "bunny", json = "Ruby json", command = "ruby bench/peers/bunny/client.rb",
    version = function() return ("bunny %s on %s"):format(package_version "ruby-bunny",
      shell.output "ruby --version":match "^ruby [%d.]+") end,
  },
  json_module("eventbus.json", "eventbus.json", "5.4", own_version),
  json_module("eventbus.json, LuaJIT", "eventbus.json", "jit", own_version),
  json_module("cjson", "cjson", "5.4", debian "lua-cjson"),
  json_module("cjson, LuaJIT", "cjson", "jit", debian "lua-cjson"),
  json_module("dkjson", "dkjson", "5.4", debian "lua-dkjson"),
}
