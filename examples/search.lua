-- The search indexer: keeps one document per product, as the product events leave it.
--
--   SEARCH_URL=http://localhost:9200/products eventbus run examples/search.lua
--
-- SEARCH_URL    PUT and DELETE <url>/_doc/<product id>
-- SEARCH_INDEX  a file of JSON lines, one per change; read again at the start

local http = require "eventbus.http"
local journal = require "eventbus.journal"

local url = os.getenv "SEARCH_URL"
local documents, product_of = {}, {}

-- Stock and prices come by SKU, and may come before the product itself.
local function apply(change)
  local id = change.product_id or product_of[change.sku] or change.sku
  if change.deleted then
    documents[id] = nil
    return id
  end
  local document = documents[id] or {}
  if change.product_id and change.sku and change.sku ~= id then
    for name, value in pairs(documents[change.sku] or {}) do document[name] = value end
    documents[change.sku], product_of[change.sku] = nil, id
  end
  for name, value in pairs(change.set) do document[name] = value end
  documents[id] = document
  return id
end

local index = assert(journal.open(os.getenv "SEARCH_INDEX", apply))

local function keep(event, change)
  if index:has(event.id) then return end
  local id = apply(change)
  -- A stock or price whose product is yet to come waits here for it.
  if url and (change.product_id or product_of[change.sku]) then
    local method = change.deleted and "DELETE" or "PUT"
    local answer, err = http.request(method, url .. "/_doc/" .. id, documents[id])
    if not answer then return nil, err end
    if answer.status >= 300 and answer.status ~= 404 then return nil, "search engine answered " .. answer.status end
  end
  index:add(event.id, change)
  print(("  %s %s"):format(change.deleted and "removed" or "indexed", id))
end

local service = {
  name = "search",
  queue = "search.products",
  handlers = {
    ["product.created"] = function(event)
      local p = event.data
      return keep(event, { product_id = p.product_id, sku = p.sku, set = p })
    end,
    ["product.updated"] = function(event)
      return keep(event, { product_id = event.data.product_id, set = event.data.changes })
    end,
    ["product.deleted"] = function(event) return keep(event, { product_id = event.data.product_id, deleted = true }) end,
    ["product.stock.*"] = function(event)
      return keep(event, { sku = event.data.sku, set = { quantity = event.data.quantity or 0 } })
    end,
    ["product.price.changed"] = function(event)
      return keep(event, { sku = event.data.sku, set = { price = event.data.new_price } })
    end,
  },
}

return service
