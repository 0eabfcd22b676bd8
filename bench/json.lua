--- JSON: eventbus.json beside lua-cjson, in turns, in one process: CPU microseconds, and ratios. Asserts nothing.
---
---     json.lua [ROUNDS [MILLISECONDS]]      of each measurement; 5 and 100

local cjson = require "cjson"
local json = require "eventbus.json"

local rounds, slice = tonumber(arg[1] or 5), tonumber(arg[2] or 100) / 1000
cjson.encode_max_depth(1000)

local function order(i)
  return {
    order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
    items = { { product_id = "prod_456", sku = "SKU001", quantity = i % 5 + 1, price = 500.00 } },
    total = 1000.00, currency = "UAH", status = "pending",
  }
end

local function list(n, make)
  local result = {}
  for i = 1, n do result[i] = make(i) end
  return result
end

local seed = 1
local function random()
  seed = (seed * 16807) % 2147483647
  return seed / 2147483647
end

-- No two alike, so that the processor cannot foresee where an escape stands.
local function irregular()
  local words, parts = { "path", "C:", "a", "hello", "\n", "\t", '"', "\\", "value ", "{", "}", "\r\n", "12", "x" }, {}
  for i = 1, 60 do parts[i] = words[math.floor(random() * #words) + 1] end
  return table.concat(parts)
end

local texts = {
  { "order, 250 B", order(3) },
  { "orders, 10 KB", list(45, order) },
  { "orders, 1 MB", list(4500, order) },
  { "integers", list(1000, function(i) return i * 7919 end) },
  { "prices", list(1000, function(i) return (i * 37 % 10000) / 100 end) },
  { "floats, 17 digits", list(1000, random) },
  { "plain text", list(100, function(i) return ("The quick brown fox jumps over the lazy dog, %d. "):format(i):rep(4) end) },
  { "Ukrainian text", list(100, function(i) return ("Дякуємо за замовлення, його вже зібрано: %d. "):format(i):rep(4) end) },
  { "escapes", list(100, irregular) },
  { "the same escapes", list(100, function(i) return ('"%d"\n\tC:\\path\\to\n'):format(i):rep(8) end) },
}

-- Seconds for one call, the best of a few rounds taken in turns with the other's.
local function measure(f, value)
  local count = 1
  while true do
    local began = os.clock()
    for _ = 1, count do f(value) end
    local spent = os.clock() - began
    if spent >= slice then return spent / count end
    count = count * 2
  end
end

local function median(values)
  table.sort(values)
  return values[math.floor((#values + 1) / 2)]
end

local function pair(ours, theirs, value, other)
  local a, b, ratio = {}, {}, {}
  for i = 1, rounds do
    a[i], b[i] = measure(ours, value), measure(theirs, other)
    ratio[i] = b[i] / a[i]
  end
  return median(a) * 1e6, median(ratio)
end

local decode = function(text) return json.decode(text) end
print(("%-18s %9s %14s %8s %14s %8s"):format("", "bytes", "encode us", "x cjson", "decode us", "x cjson"))
for _, one in ipairs(texts) do
  local text, other = assert(json.encode(one[2])), cjson.encode(one[2])
  local encode_us, encode_ratio = pair(json.encode, cjson.encode, one[2], one[2])
  local decode_us, decode_ratio = pair(decode, cjson.decode, text, other)
  print(("%-18s %9d %14.2f %7.2fx %14.2f %7.2fx"):format(one[1], #text, encode_us, encode_ratio, decode_us, decode_ratio))
end
