--- The JSON jobs of bench/peers/README.md with a JSON module of Lua: client.lua JOB EVENTS URL QUEUE MODULE

local job, count, name = arg[1], tonumber(arg[2]), arg[5]
local json = require(name)
local warm = math.floor(count / 10)

local items = ({ small = 1, ["10k"] = 144, ["1m"] = 15000 })[job:match "%-(.*)$"]
local what = job:match "^%a+"
if not items or not (what == "encode" or what == "decode") then
  io.stderr:write("no such job: " .. job .. "\n")
  os.exit(3)
end

local list = {}
for n = 1, items do list[n] = { product_id = "prod_456", sku = "SKU001", quantity = 2, price = 500.00 } end
local event = {
  id = "evt_01939d5e-7c1b-7f3a-8a52-3f6c1e9b2d40", type = "order.created", source = "oms-service",
  timestamp = "2024-01-15T10:30:00.000Z", tenant_id = "tenant_abc",
  data = {
    order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123", items = list,
    total = 1000.00, currency = "UAH", status = "pending",
  },
}

local text, run = json.encode(event), json[what]
local input = what == "encode" and event or text
local clock, now = os.clock, require("socket").gettime
local cpu, wall
for i = 1, warm + count do
  if i == warm + 1 then cpu, wall = clock(), now() end
  run(input)
end
local spent, elapsed = clock() - cpu, now() - wall
local file = io.open "/proc/self/status"
local rss = file and file:read("*a"):match "VmHWM:%s*(%d+)" or 0
print(("events=%d seconds=%.6f cpu=%.6f rss_kb=%d bytes=%d"):format(count, elapsed, spent, rss, #text))
