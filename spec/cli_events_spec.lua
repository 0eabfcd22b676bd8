-- eventbus events: no broker is needed.

local json = require "eventbus.json"
local platform = require "eventbus.platform"
local command = require "spec.support.command"

local function valid(text) return command.run({ "events", "validate" }, { input = text }) end

describe("eventbus events", function()
  it("lists all events with where they go, or those that match", function()
    local all = json.decode(command.run({ "events", "list", "--json" }).out)
    assert.are.equal(#platform.catalogue, #all)
    local some = command.run { "events", "list", "product.stock.*" }
    assert.matches("product.stock.low +products +Low Stock +analytics.events, search.products", some.out)
    assert.is_nil(some.out:find("product.created", 1, true))
    assert.are.equal(1, command.run({ "events", "list", "nonsense.*" }).code)
  end)

  it("shows an event whose example envelope is valid, for every event", function()
    assert.matches("data.items[].sku", command.run({ "events", "show", "order.created" }).out, 1, true)
    local lines = {}
    for i, event in ipairs(platform.catalogue) do
      lines[i] = assert(json.encode(platform.example(event.type)))
    end
    local r = valid(table.concat(lines, "\n"))
    assert.are.equal(0, r.code, r.out)
    local one = command.run { "events", "show", "order.paid", "--json" }
    assert.are.equal(0, valid(one.out).code)
  end)

  it("names the nearest event for one that does not exist", function()
    local r = command.run { "events", "show", "order.crated" }
    assert.are.equal(1, r.code)
    assert.matches('did you mean "order.created"?', r.err, 1, true)
  end)

  it("validate says which line is wrong and how", function()
    local good = assert(json.encode(platform.example "order.paid"))
    local r = valid(good .. "\n" .. good:gsub('"payment":', '"paiment":') .. "\n{\"id\n")
    assert.are.equal(1, r.code)
    assert.matches("line 2: order.paid: data.payment is missing (object)", r.out, 1, true)
    assert.matches("line 3: invalid JSON", r.out, 1, true)
    assert.matches("2 of 3 envelopes are not valid", r.err, 1, true)
  end)

  it("validate takes one envelope over many lines, and says where in it the mistake is", function()
    local text = require("eventbus.cli.pretty").envelope(platform.example "order.created")
    assert.are.equal(0, valid(text).code)
    local r = valid((text:gsub('"order_number"', "order_number")))
    assert.are.equal(1, r.code)
    assert.matches("invalid JSON at line 14", r.out, 1, true)
  end)

  it("says so when there is no such file", function()
    local folder = command.run({ "events", "validate" }, { stdin = "/" })
    assert.are.equal(1, folder.code)
    assert.matches("cannot read standard input: Is a directory", folder.err, 1, true)
    local r = command.run { "events", "validate", "/nonexistent/file" }
    assert.are.equal(1, r.code)
    assert.matches("/nonexistent/file: No such file", r.err, 1, true)
  end)
end)

describe("the AsyncAPI document", function()
  local document = json.decode(command.run({ "events", "--asyncapi" }).out)

  -- What a JSON Pointer of the document itself leads to.
  local function target(pointer)
    local at = document
    for part in pointer:match("^#/(.*)$"):gmatch("[^/]+") do at = at and at[part] end
    return at
  end

  it("has a channel and a message per event, bound to the event's exchange", function()
    assert.are.equal("3.0.0", document.asyncapi)
    for _, event in ipairs(platform.catalogue) do
      local channel = document.channels[event.type]
      assert.are.equal(event.routing_key, channel.address)
      assert.are.equal(event.exchange, channel.bindings.amqp.exchange.name)
      assert.is_table(document.components.messages[event.type])
    end
  end)

  it("has no reference that leads nowhere", function()
    local count = 0
    local function walk(value)
      for key, item in pairs(value) do
        if key == "$ref" then
          count = count + 1
          assert.is_table(target(item), item)
        elseif type(item) == "table" then
          walk(item)
        end
      end
    end
    walk(document)
    assert.is_true(count > 60)
  end)

  it("says what each service receives", function()
    assert.are.equal("receive", document.operations["telegram-bot.receive.notification.telegram"].action)
    assert.is_nil(document.operations["telegram-bot.receive.order.created"])
    assert.is_table(document.operations["warehouse.receive.order.confirmed"])
  end)

  it("requires in a payload what the catalogue requires", function()
    local data = document.components.messages["order.paid"].payload.properties.data
    assert.are.same({ "order_id", "payment" }, { data.required[1], data.required[2] })
    assert.are.equal("number", data.properties.payment.properties.amount.type)
    assert.are.equal(2, #data.properties.payment.required)
  end)
end)
