--- reloading_worker: a worker over scripts that stop at a place of its reload until they are told to go on. It reloads at
--- once, and stops when it is ready for the second time.
---
---     reloading_worker.lua URL PLACE FILE
---
--- PLACE: "compiles", before its subscriptions are cancelled; "reload", when nothing is in flight. There it says "here", and
--- goes on once FILE exists.

local worker = require "eventbus.cli.worker"
local wait = require "spec.support.wait"

local url, place, go = arg[1], arg[2], arg[3]

local function say(_, _, text)
  io.stdout:write(text, "\n")
  io.stdout:flush()
end

local function stop_at(name)
  if name ~= place then return end
  place = nil
  say(nil, nil, "here")
  wait(function()
    local file = io.open(go, "rb")
    if file then file:close() end
    return file ~= nil
  end, 60, "it may go on")
end

local function version(name)
  local options = { retry = false, dead_letter = false }
  return {
    definition = { name = name, topology = {} },
    subscriptions = { { queue = "q", handlers = print, options = options } },
    compiles = function()
      stop_at "compiles"
      return true
    end,
    reload = function()
      stop_at "reload"
      return version "new"
    end,
    restore = function() end,
  }
end

local ready, w = 0, nil
local function heard(_, level, text)
  say(nil, level, text)
  if text:find " is ready: " then ready = ready + 1 end
  if ready == 2 then w:stop() end
end

w = worker.new(version "old", { log = { say = heard, say_lines = heard, settled = function() end },
  connect = { url = url, timeout = "1s", retry_refused = true, reconnect_delay = "100ms", reconnect_max = "200ms" } })
w:reload()
os.exit(w:run(), true)
