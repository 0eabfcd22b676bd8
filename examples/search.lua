-- The search indexer: keeps one document per product in Elasticsearch or OpenSearch, as the product events leave it.
--
--   SEARCH_URL=http://localhost:9200/products SEARCH_DB=products.db eventbus run examples/search.lua
--   eventbus publish products search.reindex '{}'          # writes the whole index again
--
-- SEARCH_URL  the index: POST <url>/_bulk. User and password may be in it. Without it documents are only printed
-- SEARCH_DB   a SQLite file of all documents; without it they are in memory, and gone when the process ends
--
-- The file is the truth, the index a copy of it. An event changes the file in one transaction; then the document is sent,
-- with its revision as external version: the index keeps the newest, whatever comes twice or late. Killed in between, the
-- event comes again and the document is sent then. The index is filled from the file when the event search.reindex says so,
-- and at the start when SEARCH_URL is one that was never filled.

local eventbus = require "eventbus"
local http = require "eventbus.http"
local json = require "eventbus.json"
local store = require "eventbus.store"

local BATCH = 500

-- Stock and prices come by SKU, and may come before the product that tells whose SKU it is. A field belongs to whoever wrote
-- it last by the event's own clock.
local SCHEMA = {
  [[CREATE TABLE IF NOT EXISTS fields (
    of TEXT, name TEXT, value TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (of, name)) WITHOUT ROWID]],
  [[CREATE TABLE IF NOT EXISTS products (
    id TEXT PRIMARY KEY, sku TEXT, deleted INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID]],
  "CREATE INDEX IF NOT EXISTS products_by_sku ON products (sku)",
  "CREATE TABLE IF NOT EXISTS filled (url TEXT PRIMARY KEY) WITHOUT ROWID",
}

local url = os.getenv "SEARCH_URL"
-- Whose fields: a product's, or those known of a SKU.
local PRODUCT, OF_SKU = "product:", "sku:"

local db

local function set(of, name, value, at)
  if value == nil or value == json.null then return end
  db:execute([[INSERT INTO fields VALUES (?, ?, ?, coalesce(strftime('%Y-%m-%dT%H:%M:%f', ?), ''))
    ON CONFLICT (of, name) DO UPDATE SET value = excluded.value, at = excluded.at WHERE excluded.at >= at]],
    of, name, assert(json.encode(value)), at)
end

-- The document of a product: what is known of its SKU, and of itself.
local function document(product)
  local fields = {}
  for _, of in ipairs { OF_SKU .. (product.sku or ""), PRODUCT .. product.id } do
    for _, row in ipairs(db:query("SELECT name, value, at FROM fields WHERE of = ?", of)) do
      local known = fields[row.name]
      if not known or row.at >= known.at then fields[row.name] = row end
    end
  end
  local result = { product_id = product.id, sku = product.sku }
  for name, row in pairs(fields) do result[name] = json.decode(row.value) end
  return result
end

local SORTED = { sort_keys = true }

local function line(text)
  return text .. "\n"
end

-- The two lines of one document for _bulk, or the one of a deletion.
local function lines_of(product)
  local head = { _id = product.id, version = product.revision, version_type = "external_gte" }
  if product.deleted == 1 then return line(json.encode({ delete = head }, SORTED)) end
  return line(json.encode({ index = head }, SORTED)) .. line(assert(json.encode(document(product), SORTED)))
end

-- What the engine says of each document; 409 is a newer one that is there already, 404 a deletion of nothing.
local function refused(answer)
  for _, item in ipairs(type(answer.items) == "table" and answer.items or {}) do
    for _, result in pairs(item) do
      if result.status >= 300 and result.status ~= 409 and result.status ~= 404 then
        local reason = type(result.error) == "table" and result.error.reason or result.status
        return tostring(result._id), result.status, tostring(reason)
      end
    end
  end
end

local function write(products)
  if not url or #products == 0 then return true end
  local lines = {}
  for i, product in ipairs(products) do lines[i] = lines_of(product) end
  local answer, err = http.post(url .. "/_bulk", table.concat(lines),
    { content_type = "application/x-ndjson", timeout = 30 })
  if not answer then return nil, err end
  if answer.status == 429 then
    eventbus.retry { after = math.min(answer.retry_after or 1, 86400), counted = false, reason = "the index asks to wait" }
  end
  if answer.status >= 300 then return nil, ("the index answered %d"):format(answer.status) end
  if type(answer.json) ~= "table" then return nil, "the index does not speak _bulk" end
  local id, status, reason = refused(answer.json)
  if not id then return true end
  -- A document that does not fit the mapping never will; all else may pass.
  if status == 400 then eventbus.reject(("the index refuses %s: %s"):format(id, reason)) end
  return nil, ("the index refuses %s: %s"):format(id, reason)
end

local function reindex()
  local after, count = "", 0
  while true do
    local products = db:query("SELECT * FROM products WHERE id > ? ORDER BY id LIMIT ?", after, BATCH)
    if #products == 0 then break end
    local ok, err = write(products)
    if not ok then return nil, err end
    after, count = products[#products].id, count + #products
  end
  if url then db:execute("INSERT OR IGNORE INTO filled VALUES (?)", (url:gsub("//.*@", "//"))) end
  if count > 0 then print(("  %d products indexed again"):format(count)) end
  return true
end

-- Runs `change` once, then sends the documents it concerns: also when the event comes a second time, for the first may have
-- ended in between.
local function keep(event, change, condition, value)
  db:once(event.id, function()
    change(event.data, event.timestamp)
    db:execute("UPDATE products SET revision = revision + 1 WHERE " .. condition, value)
  end)
  local products = db:query("SELECT * FROM products WHERE " .. condition, value)
  local ok, err = write(products)
  if not ok then return nil, err end
  for _, product in ipairs(products) do
    print(("  %s %s"):format(product.deleted == 1 and "removed" or "indexed", product.id))
  end
end

local function of_product(change)
  return function(event)
    return keep(event, function(data, at)
      db:execute("INSERT OR IGNORE INTO products (id) VALUES (?)", data.product_id)
      change(data, at)
    end, "id = ?", event.data.product_id)
  end
end

local function of_sku(name, field)
  return function(event)
    return keep(event, function(data, at) set(OF_SKU .. data.sku, name, data[field] or 0, at) end, "sku = ?", event.data.sku)
  end
end

local service = {
  name = "search",
  queues = { "search.products", "search.reindex" },
  handlers = {
    ["product.created"] = of_product(function(data, at)
      db:execute("UPDATE products SET sku = ? WHERE id = ?", data.sku, data.product_id)
      for name, value in pairs(data) do
        -- Both come by SKU later on, and must be comparable with what comes then.
        local by_sku = name == "quantity" or name == "price"
        if name ~= "product_id" and name ~= "sku" then
          set(by_sku and OF_SKU .. data.sku or PRODUCT .. data.product_id, name, value, at)
        end
      end
    end),
    ["product.updated"] = of_product(function(data, at)
      for name, value in pairs(data.changes) do set(PRODUCT .. data.product_id, name, value, at) end
      if data.changes.sku then db:execute("UPDATE products SET sku = ? WHERE id = ?", data.changes.sku, data.product_id) end
    end),
    -- A mark that stays: an update that comes late does not bring the product back.
    ["product.deleted"] = of_product(function(data)
      db:execute("UPDATE products SET deleted = 1 WHERE id = ?", data.product_id)
    end),
    ["product.stock.*"] = of_sku("quantity", "quantity"),
    ["product.price.changed"] = of_sku("price", "new_price"),
    ["search.reindex"] = reindex,
  },
}

function service.start()
  local path = os.getenv "SEARCH_DB"
  if not path then print "  SEARCH_DB is not set: the documents are gone when this process ends" end
  if not url then print "  SEARCH_URL is not set: documents are only printed" end
  db = assert(store.open(path, SCHEMA))
  if not url or db:row("SELECT 1 AS found FROM filled WHERE url = ?", (url:gsub("//.*@", "//"))) then return end
  local ran, ok, err = pcall(reindex)
  -- An index that cannot be reached now is filled at the next start, or when search.reindex comes.
  if not (ran and ok) then print("  the index is not filled: " .. tostring(err or ok)) end
end

function service.stop()
  db:close()
end

return service
