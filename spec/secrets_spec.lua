--- Passwords: in nothing that the library or the command writes, not even when the URL is wrong or in the wrong place.

local broker = require "spec.support.broker"
local command = require "spec.support.command"
local core = require "eventbus.core"
local eventbus = require "eventbus"
local json = require "eventbus.json"
local management = require "eventbus.management"
local program = require "spec.support.program"
local smtp = require "eventbus.smtp"
local wait_until = require("spec.support.wait").wait_until

local SECRET = "Xk9sEcReT7q"

local function clean(text, what)
  assert.is_nil(tostring(text):find(SECRET, 1, true), (what or "it") .. " shows the password")
end

-- Everything a dump of a value can reach: names, values, metatables.
local function clean_in_depth(value, seen, path)
  if type(value) == "string" then return clean(value, path) end
  if type(value) == "userdata" then clean(tostring(value), path) end
  if (type(value) ~= "table" and type(value) ~= "userdata") or seen[value] then return end
  seen[value] = true
  clean_in_depth(debug.getmetatable(value), seen, path .. "<meta>")
  if type(value) ~= "table" then return end
  for key, item in next, value do
    clean_in_depth(key, seen, path .. "[key]")
    clean_in_depth(item, seen, path .. "." .. tostring(key))
  end
end

-- What users get wrong, each with the password somewhere.
local WRONG = {
  "amqp://guest:" .. SECRET .. "@127.0.0.1:1",
  "amqp://guest:" .. SECRET .. "@x@127.0.0.1",
  "amqp://guest:a/" .. SECRET .. "@127.0.0.1",
  "amqp://guest:a?" .. SECRET .. "@127.0.0.1",
  "amqp://guest:a#" .. SECRET .. "@127.0.0.1",
  "amqp://guest:a:" .. SECRET .. "@127.0.0.1",
  "amqp://guest:a " .. SECRET .. "@127.0.0.1",
  "amqp://guest:a%" .. SECRET .. "@127.0.0.1",
  "amqp://guest:" .. SECRET .. "%00@127.0.0.1",
  "amqp://guest:" .. SECRET .. "@127.0.0.1:99999",
  "amqp://guest:" .. SECRET .. "@[::1",
  "amqp://guest:" .. SECRET .. "@127.0.0.1/a/b",
  "amqp://guest:" .. SECRET .. "@127.0.0.1?cacert=x",
  "amqp://guest:" .. SECRET .. "@127.0.0.1?heartbeat=soon",
  "amqp://guest:" .. SECRET .. "@127.0.0.1?cacertfile=/none",
  "amqps://guest:" .. SECRET .. "@127.0.0.1?cacertfile=/none",
  "amqps://guest:" .. SECRET .. "@127.0.0.1?keyfile=/none",
  "amqp://guest:" .. SECRET,
  "amqp://guest:" .. SECRET .. ":5672",
  "amqp://guest:127.0.0.1@" .. SECRET .. ":x",
  "amqp:/guest:" .. SECRET .. "@127.0.0.1",
  "amqp//guest:" .. SECRET .. "@127.0.0.1",
  "guest:" .. SECRET .. "@127.0.0.1",
  "http://guest:" .. SECRET .. "@127.0.0.1",
  "amqp://guest:" .. SECRET:rep(700) .. "@127.0.0.1",
  "amqp://guest:" .. SECRET .. "@127.0.0.1," .. ("x"):rep(300),
}

describe("a password", function()
  local b, url

  setup(function()
    b = broker.shared()
    b:user("marked", SECRET)
    url = b:url_of("/", "marked", SECRET)
  end)

  teardown(function() b:eval 'rabbit_auth_backend_internal:delete_user(<<"marked">>, <<"spec">>)' end)

  it("is in no error and no log line about a URL, whatever is wrong with it", function()
    for _, wrong in ipairs(WRONG) do
      local parts, err = core.url(wrong)
      if parts then clean(parts.display) else clean(err) clean(err.message) end
      local function log(_, text, fields) clean(text) clean_in_depth(fields, {}, "fields") end
      local bus
      bus, err = eventbus.connect { url = wrong, log = log,
        on_notice = function(notice) clean_in_depth(notice, {}, "notice") end }
      assert.is_nil(bus)
      clean(err)
      clean_in_depth(err, {}, "err")
    end
  end)

  it("is in no mistake of the program", function()
    local wrong = {
      { uri = url }, { URL = url }, { url }, { url = { url } }, { url = url, sauce = "x" }, { url = url, prefetch = url },
      { url = url, verify = url }, { url = url, retry = url }, { source = 1, url = url }, { url = url, log = url },
    }
    for _, options in ipairs(wrong) do
      local ok, err = pcall(eventbus.connect, options)
      assert.is_false(ok)
      clean(err)
    end
    clean(select(2, pcall(core.open, { url = url, prefetch = {} })))
    clean(select(2, pcall(core.open, url)))
  end)

  it("is in nothing that a bus shows, while it works and when it fails", function()
    local said = {}
    local bus = eventbus.assert(eventbus.connect {
      url = url, log = function(level, text, fields) said[#said + 1] = { level, text, fields } end,
      on_notice = function(notice) said[#said + 1] = notice end, reconnect_delay = 0.05,
    })
    eventbus.assert(bus:declare { queues = { secrets = {} } })
    eventbus.assert(bus:subscribe("secrets", function() error "it fails" end, { retry = false }))
    eventbus.assert(bus:publish("", "secrets", {}))
    wait_until(function() bus:poll(0.1) return bus:stats().subscriptions[1].dead_lettered == 1 end, 30, "a dead letter")
    b:close_connections("closed by the test")
    wait_until(function() bus:poll(0.1) return bus:stats().core.control.connections >= 2 end, 30, "it is connected again")
    local letter
    eventbus.assert(bus:subscribe("deadletter.secrets", function(_, ctx)
      letter = { ctx.headers, ctx.properties, ctx.body }
    end))
    wait_until(function() bus:poll(0.1) return letter end, 30, "the dead letter")
    clean_in_depth(letter, {}, "letter")
    clean(tostring(bus), "tostring")
    clean(json.encode(bus:stats(), { sort_keys = true }) or "", "stats")
    clean_in_depth(bus, {}, "bus")
    bus:close()
    clean_in_depth(said, {}, "log")
    clean_in_depth(bus, {}, "closed bus")
  end)

  it("is in no error of a refused login", function()
    local bus, err = eventbus.connect { url = b:url_of("/", "marked", SECRET .. "x"), log = false }
    assert.is_nil(bus)
    assert.are.equal("refused", err.code)
    clean_in_depth(err, {}, "err")
  end)

  it("is in no error about another service's URL", function()
    local parts = core.url "amqp://localhost"
    for _, form in ipairs { "http://u:%s@127.0.0.1:1", "http://u:a/%s@127.0.0.1:1", "http://u:a?%s@127.0.0.1:1",
      "http://u:a#%s@127.0.0.1:1", "http://u:a@%s@127.0.0.1:1", "http://u:a %s@127.0.0.1:1", "http://%s@127.0.0.1:1",
      "u:%s@h", "https://u:%s@127.0.0.1:1" } do
      local api, err = management.new(form:format(SECRET), parts)
      if api then
        clean(api.display)
        _, err = api:overview()
        assert.are.equal("connection", err.code)
      end
      clean(err)
    end
    for _, form in ipairs { "smtp://u:%s@127.0.0.1:1", "smtp://u:a/%s@127.0.0.1:1", "smtp://u:a?%s@127.0.0.1:1", "u:%s@h",
      "smtp://%s@127.0.0.1:1", "smtp://u:a@%s@127.0.0.1:1" } do
      local mails, err = smtp.new(form:format(SECRET))
      if mails then
        clean(mails.display)
        _, err = mails:send { from = "a@b.example", to = "c@d.example", subject = "x", text = "x" }
      end
      clean(err)
    end
  end)

  it("is in nothing that the command writes", function()
    local place = { RABBITMQ_URL = b:url_of("/") }
    local typed = "amqp://marked:" .. SECRET .. "@127.0.0.1:1"
    for _, words in ipairs {
      { "doctor", "--url", url }, { "doctor", "--url", typed }, { "monitor", "--once", "--url", url },
      { "tail", typed, "--for", "0.1s" }, { typed }, { "topology", typed }, { "run", typed }, { "new", typed },
      { "dlq", "show", typed }, { "publish", typed, "order.created", "{}" }, { "events", "show", typed },
      { "check", typed }, { "check", "--url", typed }, { "tail", "--timeout", typed }, { "tail", "--ulr=" .. typed },
      { "doctor", "--management", "http://u:a/" .. SECRET .. "@127.0.0.1:1" },
      { "doctor", "--url", "amqp://marked:a/" .. SECRET .. "@127.0.0.1" },
      { "doctor", "--url", url .. "?nonsense=1" },
    } do
      local r = command.run(words, { env = place })
      assert.is_true(#r.out + #r.err > 0)
      clean(r.out, table.concat(words, " "))
      clean(r.err, table.concat(words, " "))
    end
  end)

  it("of the command line is not passed on to the processes that it starts", function()
    local script = program.folder() .. "/quiet.lua"
    local file = assert(io.open(script, "w"))
    file:write [[
service "quiet"
topology { queues = { ["secrets.run"] = {} } }
queue "secrets.run"
on("#", function() end)
]]
    file:close()
    local p = command.start({ "run", script, "--workers", "2", "--url", url })
    wait_until(function()
      local queue = b:queue("/", "secrets.run")
      return queue and queue.consumers == 2
    end, 60, "both workers consume")
    local pids = {}
    for pid in p:output():gmatch "is started, pid (%d+)" do pids[#pids + 1] = pid end
    assert.are.equal(2, #pids)
    local pipe = assert(io.popen("ps -ww -o args= -p " .. table.concat(pids, ",")))
    local lines = pipe:read "*a"
    pipe:close()
    p:stop()
    assert.are.equal(2, select(2, lines:gsub("quiet%.lua", "")), lines)
    clean(lines, "a worker's command line")
    clean(p:output(), "the output")
  end)
end)
