-- examples/search.lua against a server that speaks _bulk, and a real broker.

local eventbus = require "eventbus"
local json = require "eventbus.json"
local program = require "spec.support.program"
local services = require "spec.support.services"
local wait = require "spec.support.wait"

local OK = '{"errors":false,"items":[]}'
local s, path

before_each(function()
  s = services.new()
  path = program.folder() .. "/products.db"
end)
after_each(function() s:stop() end)

local function start(engine, more)
  local environment = { SEARCH_URL = engine.url .. "/products", SEARCH_DB = path }
  for key, value in pairs(more or {}) do environment[key] = value end
  return s:start("search", environment)
end

-- What the index holds after some requests: document by id, the highest version wins, as an external version does.
local function index_after(requests)
  local documents, versions = {}, {}
  for _, request in ipairs(requests) do
    local lines = request.body:gmatch "([^\n]*)\n"
    for line in lines do
      local action = assert(json.decode(line))
      local head = action.index or action.delete
      assert.equal("external_gte", head.version_type)
      local document = action.index and assert(json.decode(lines())) or nil
      if head.version >= (versions[head._id] or 0) then
        versions[head._id], documents[head._id] = head.version, document
      end
    end
  end
  return documents
end

describe("search", function()
  it("indexes products with their stock and prices, whatever comes first, and removes them", function()
    local engine = s:peer { { body = OK } }
    local p = start(engine)
    s:publish("product.stock.updated", { sku = "SKU001", quantity = 7 })
    s:publish("product.updated", { product_id = "prod_456", changes = { name = "Teapot" } })
    s:publish("product.created", { product_id = "prod_456", sku = "SKU001", name = "Clay teapot", price = 500.5,
      quantity = 1 }, { timestamp = "2024-01-15T10:00:00Z" })
    services.handled(p, s:publish("product.price.changed", { sku = "SKU001", old_price = 500.5, new_price = 450 }))
    assert.same({ prod_456 = { product_id = "prod_456", sku = "SKU001", name = "Teapot", price = 450, quantity = 7 } },
      index_after(engine:requests()))
    services.handled(p, s:publish("product.stock.out", { sku = "SKU001" }))
    assert.equal(0, index_after(engine:requests()).prod_456.quantity)
    services.handled(p, s:publish("product.deleted", { product_id = "prod_456" }))
    assert.same({}, index_after(engine:requests()))
    services.handled(p, s:publish("product.updated", { product_id = "prod_456", changes = { name = "late" } },
      { timestamp = "2024-01-15T11:00:00Z" }))
    assert.same({}, index_after(engine:requests()))
    local request = engine:requests()[1]
    assert.equal("POST /products/_bulk", request.method .. " " .. request.path)
    assert.equal("application/x-ndjson", request.headers["content-type"])
  end)

  it("fills a new index at the start, and again when search.reindex asks for it", function()
    local old = s:peer { { body = OK } }
    local p = start(old)
    for i = 1, 1200 do
      assert(s.bus:publish_async("products", "product.created",
        { product_id = "p" .. i, sku = "S" .. i, name = "n" .. i, price = i }))
    end
    eventbus.assert(s.bus:flush(30))
    wait(function() return s.node:queue(s.vhost, "search.products").messages == 0 end, 300, "all are indexed")
    services.handled(p, s:publish("product.deleted", { product_id = "p7" }))
    p:stop()

    local new = s:peer { { body = OK } }
    p = start(new)
    services.says(p, "1200 products indexed again")
    assert.equal(3, #new:requests())
    local documents = index_after(new:requests())
    assert.same({ product_id = "p1200", sku = "S1200", name = "n1200", price = 1200 }, documents.p1200)
    assert.is_nil(documents.p7)
    p:stop()
    -- Known already: the next start writes nothing.
    p = start(new)
    assert.equal(3, #new:requests())
    services.handled(p, s:publish("search.reindex", {}, { exchange = "products" }))
    assert.equal(6, #new:requests())
  end)

  it("catches up when the index was down", function()
    local engine = s:peer { { body = OK } }
    local port = engine.port
    engine:stop()
    local p = start(engine, { RABBITMQ_RETRY_COUNT = "500" })
    local id = s:publish "product.created"
    services.says(p, "failed, will be retried in 200ms: 127.0.0.1")
    engine = s:peer { { body = OK }, port = port }
    services.handled(p, id)
    assert.equal("Clay teapot", index_after(engine:requests()).prod_456.name)
    engine:stop()
    p:stop()
    -- A new index that is down at the start is filled later.
    p = s:start("search", { SEARCH_URL = engine.url .. "/new", SEARCH_DB = path })
    assert.matches("the index is not filled: 127.0.0.1:%d+: connection refused", p:output())
    engine = s:peer { { body = OK }, port = port }
    services.handled(p, s:publish("search.reindex", {}, { exchange = "products" }))
    assert.equal("/new/_bulk", engine:requests()[1].path)
  end)

  it("changes nothing twice, and sends the document, when it was killed before the acknowledgement", function()
    local engine = s:peer { { body = OK } }
    local killed = s:spawn("spec/support/killed_service.lua", { SERVICE_FILE = "examples/search.lua", SEARCH_DB = path,
      SEARCH_URL = engine.url .. "/products" })
    services.says(killed, " is ready")
    local id = s:publish "product.created"
    assert.equal(137, killed:wait(20))
    local p = start(engine)
    services.handled(p, id)
    local requests = engine:requests()
    assert.equal(2, #requests)
    assert.equal(requests[1].body, requests[2].body)
  end)

  it("rejects a document that the index refuses, retries what may pass, minds that a newer one is there", function()
    local function item(status, reason)
      return { body = json.encode { errors = true, items = { { index = { _id = "prod_456", status = status,
        error = { reason = reason } } } } } }
    end
    local engine = s:peer { item(400, "failed to parse field [price]"), item(503, "no shard"), { status = 429 },
      item(409, "newer") }
    local p = start(engine)
    local first = s:publish "product.created"
    local event, headers = s:dead_letter "deadletter.search.products"
    assert.equal(first, event.id)
    assert.equal("the index refuses prod_456: failed to parse field [price]", headers["x-eventbus-error"])
    services.handled(p, s:publish "product.created")
    assert.equal(4, #engine:requests())
    assert.matches("the index refuses prod_456: no shard", p:output(), 1, true)
  end)
end)
