--- services: the examples as a user runs them, each a process, on an empty virtual host with the platform's topology.
---
---     local s = services.new()
---     local p = s:start("crm", { CRM_DB = path })     -- returns once it is ready; a program (spec/support/program.lua)
---     s:publish("customer.created", data); s:handled(p, id); s:dead_letter("deadletter.crm.customers"); s:stop()

local eventbus = require "eventbus"
local platform = require "eventbus.platform"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local peer = require "spec.support.peer"
local program = require "spec.support.program"
local smtp_peer = require "spec.support.smtp_peer"
local wait = require "spec.support.wait"

local services = {}
services.__index = services

local SECONDS = 20

function services.new()
  local node = broker.shared()
  local url, vhost = node:new_vhost()
  local self = setmetatable({ node = node, url = url, vhost = vhost, running = {} }, services)
  self.bus = eventbus.assert(eventbus.connect { url = url, source = "oms-service" })
  eventbus.assert(self.bus:declare(platform.topology))
  return self
end

function services:stop()
  for _, p in ipairs(self.running) do p:stop() end
  self.bus:close()
  self.node:delete_vhost(self.vhost)
end

--- Starts a file of examples/, or any file, without waiting for it.
function services:spawn(name, environment)
  local variables = { RABBITMQ_URL = self.url, RABBITMQ_RETRY_COUNT = "2", RABBITMQ_RETRY_DELAY = "200ms",
    TELEGRAM_TOKEN = "1:secret" }
  for key, value in pairs(environment or {}) do variables[key] = value end
  local path = name:find("/", 1, true) and name or "examples/" .. name .. ".lua"
  local p = program.start(name:match("[^/]+$"), command.words { "run", path }, variables)
  self.running[#self.running + 1] = p
  return p
end

function services:start(name, environment)
  local p = self:spawn(name, environment)
  wait(function()
    assert(not p:ended() or p:output():find(" is ready", 1, true), p:output())
    return p:output():find(" is ready", 1, true), p:output()
  end, SECONDS, name .. " is ready")
  return p
end

--- An HTTP server, stopped with the rest.
function services:peer(answers)
  local p = peer.start(answers)
  self.running[#self.running + 1] = p
  return p
end

--- A mail server, likewise.
function services:mail_server(told)
  local p = smtp_peer.start(told)
  self.running[#self.running + 1] = p
  return p
end

--- The example payload of an event, one's own to change.
function services.example(type)
  return platform.example(type).data
end

--- Publishes to the event's own exchange, `data` or else its example; returns the id.
function services:publish(type, data, options)
  local all = { tenant_id = "tenant_abc" }
  for key, value in pairs(options or {}) do all[key] = value end
  local exchange = all.exchange or platform.exchange_of(type)
  all.exchange = nil
  return eventbus.assert(self.bus:publish(exchange, type, data or services.example(type), all))
end

--- Waits until a program's output says something (plain text).
function services.says(p, text)
  return wait(function() return p:output():find(text, 1, true), p:output() end, SECONDS, "it says " .. text)
end

--- Waits until a service has handled an event.
function services.handled(p, id)
  local pattern = id:gsub("%p", "%%%0") .. "  %S+  %S+  attempt %d+  %d+ ms  done"
  return wait(function() return p:output():find(pattern), p:output() end, SECONDS, id .. " is handled")
end

--- Waits for n requests or mails of a peer, and returns them.
function services.requests(p, n)
  return wait(function()
    local list = p.requests and p:requests() or p:mails()
    return #list >= n and list, #list
  end, SECONDS, n .. " requests")
end

--- Waits for a dead letter, takes it off, and returns its event and headers.
function services:dead_letter(queue)
  local letter = wait(function() return self.bus:get(queue) end, SECONDS, "a dead letter in " .. queue)
  local event, headers = letter:event(), letter:headers()
  letter:ack()
  return event, headers
end

return services
