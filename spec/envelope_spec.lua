local cjson = require "cjson"
local core = require "eventbus.core"
local envelope = require "eventbus.envelope"
local garbage = require "spec.support.garbage"
local json = require "eventbus.json"

local null = json.null
local UUID7 = "^evt_%x%x%x%x%x%x%x%x%-%x%x%x%x%-7%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"
local NOW = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$"

-- What the fields of an event are, one by one replaceable; `false` leaves one out.
local function event_with(fields)
  local event = {
    id = "evt_1", type = "order.created", source = "oms-service", timestamp = "2024-01-15T10:30:00Z",
    tenant_id = "tenant_abc", correlation_id = "req_xyz", data = { total = 12.5 }, metadata = { version = "1.0" },
  }
  for name, value in pairs(fields or {}) do
    if value == false then event[name] = nil else event[name] = value end
  end
  return event
end

local function bytes_of(event, options)
  local bytes, err = envelope.encode(event, options)
  assert(bytes, tostring(err))
  return bytes
end

local function read(bytes, options)
  local event, err = envelope.decode(bytes, options)
  assert(event, tostring(err))
  return event
end

local function is_error(err, code)
  assert.equal(core.error_metatable, getmetatable(err))
  assert.equal(code, err.code)
  return err.message
end

local function not_sent(event, code, options)
  local bytes, err = envelope.encode(event, options)
  assert.is_nil(bytes)
  return is_error(err, code or "invalid")
end

local function not_read(bytes, options)
  local event, err = envelope.decode(bytes, options)
  assert.is_nil(event)
  return is_error(err, "malformed")
end

local function starts(text, with)
  assert.equal(with, text:sub(1, #with))
end

local function nested(depth)
  local value = {}
  for _ = 2, depth do value = { value } end
  return value
end

describe("envelope.new", function()
  it("gives an event an id and a timestamp", function()
    local event = envelope.new { type = "order.created", data = { 1 } }
    assert.truthy(event.id:match(UUID7), event.id)
    assert.truthy(event.timestamp:match(NOW), event.timestamp)
    assert.equal("order.created", event.type)
    assert.same({ 1 }, event.data)
  end)

  it("keeps what is given, in another table", function()
    local fields = event_with()
    local event = envelope.new(fields)
    assert.are_not.equal(fields, event)
    assert.same(fields, event)
    assert.equal(fields.data, event.data)
  end)

  it("makes ids that ascend and differ", function()
    local last, seen = "", {}
    for _ = 1, 20000 do
      local id = envelope.new({ type = "a" }).id
      assert(id > last and not seen[id], id)
      last, seen[id] = id, true
    end
  end)

  it("raises for misuse, at the caller", function()
    local function raises(fields, words)
      local ok, err = pcall(function() envelope.new(fields) end)
      assert.is_false(ok)
      assert.truthy(err:find("envelope_spec.lua", 1, true), err)
      assert.truthy(err:find(words, 1, true), err)
    end
    raises({ type = "a", tenant = "x" }, "unknown field 'tenant'")
    raises({ type = "a", ["id\0x"] = "x" }, "unknown field")
    raises({ type = "a", "x" }, "unknown field")
    raises({}, "type")
    raises({ type = "" }, "type")
    raises({ type = 5 }, "type")
    assert.has_error(function() envelope.new() end)
    assert.has_error(function() envelope.new "order.created" end)
  end)
end)

describe("envelope.encode", function()
  it("writes the fields in the order of the specification", function()
    assert.equal('{"id":"evt_1","type":"order.created","source":"oms-service","timestamp":"2024-01-15T10:30:00Z",'
      .. '"tenant_id":"tenant_abc","correlation_id":"req_xyz","data":{"total":12.5},"metadata":{"version":"1.0"}}',
      bytes_of(event_with()))
  end)

  it("leaves out what is absent, and sends absent data as null", function()
    local bytes = bytes_of { id = "e", type = "t", timestamp = "2024-01-15T10:30:00Z" }
    assert.equal('{"id":"e","type":"t","timestamp":"2024-01-15T10:30:00Z","data":null}', bytes)
    bytes = bytes_of { id = "e", type = "t", timestamp = "2024-01-15T10:30:00Z", data = null, metadata = null }
    assert.equal('{"id":"e","type":"t","timestamp":"2024-01-15T10:30:00Z","data":null}', bytes)
  end)

  it("keeps empty texts, as the Go services send them", function()
    local bytes = bytes_of(event_with { tenant_id = "", source = "", correlation_id = "" })
    for _, name in ipairs { "tenant_id", "source", "correlation_id" } do
      assert.truthy(bytes:find('"' .. name .. '":""', 1, true))
    end
  end)

  it("makes an id and a timestamp when there is none", function()
    for _, given in ipairs { {}, { id = "", timestamp = "" } } do
      given.type = "t"
      local event = read(bytes_of(given))
      assert.truthy(event.id:match(UUID7), event.id)
      assert.truthy(event.timestamp:match(NOW), event.timestamp)
    end
  end)

  it("keeps the timestamp as it is written", function()
    for _, text in ipairs { "2024-01-15T10:30:00.123456789Z", "2024-01-15T12:30:00+02:00", "2024-01-15t10:30:00z" } do
      assert.equal(text, read(bytes_of(event_with { timestamp = text })).timestamp)
    end
  end)

  it("puts other fields behind", function()
    local bytes = bytes_of(event_with { spec_version = "2", ["na\"me"] = { 1 }, nothing = null })
    local known = bytes_of(event_with())
    starts(bytes, known:sub(1, -2) .. ",")
    local back = read(bytes)
    assert.equal("2", back.spec_version)
    assert.same({ 1 }, back['na"me'])
    assert.equal(null, back.nothing)
  end)

  it("does not take a name with a zero byte for the name in front of it", function()
    local back = read(bytes_of(event_with { ["data\0"] = "mine", ["id\0x"] = "other" }))
    assert.equal("mine", back["data\0"])
    assert.equal("other", back["id\0x"])
    assert.equal("evt_1", back.id)
  end)

  it("keeps zero bytes in texts", function()
    local event = event_with { tenant_id = "a\0b", data = { ["k\0"] = "v\0w" } }
    assert.same(event, read(bytes_of(event)))
  end)

  it("reads its fields without metamethods", function()
    local event = setmetatable(event_with { source = false }, { __index = function() error "ran" end })
    assert.is_nil(bytes_of(event):find("source", 1, true))
  end)

  it("does not change the event", function()
    local event = { type = "t", data = {} }
    bytes_of(event)
    assert.same({ type = "t", data = {} }, event)
  end)

  it("takes any payload that is JSON", function()
    for _, data in ipairs { false, true, 5, "text", json.array(), {}, null } do
      assert.same(data, read(bytes_of(event_with { data = { data } })).data[1])
    end
    local event = event_with()
    event.data = false
    assert.equal(false, read(bytes_of(event)).data)
    event.data = "text"
    assert.equal("text", read(bytes_of(event)).data)
  end)

  it("writes nothing that decode refuses as too deep", function()
    assert.truthy(read(bytes_of(event_with { data = nested(127) })))
    assert.truthy(read(bytes_of(event_with { other = nested(127) })))
    assert.truthy(not_sent(event_with { data = nested(128) }):find "nested too deep")
    assert.truthy(not_sent(event_with { other = nested(128) }):find "nested too deep")
    assert.truthy(not_sent(event_with { metadata = { a = nested(127) } }):find "nested too deep")
  end)
end)

describe("envelope.encode names the field that is wrong:", function()
  for _, name in ipairs { "id", "type", "source", "timestamp", "tenant_id", "correlation_id" } do
    it(name .. " that is no text", function()
      for _, value in ipairs { 5, true, {}, null } do
        starts(not_sent(event_with { [name] = value }), name .. ": a string expected, got ")
      end
    end)
  end

  for _, name in ipairs { "id", "type", "source", "tenant_id", "correlation_id" } do
    it(name .. " that is not UTF-8", function()
      assert.equal(name .. ": invalid UTF-8 at byte 2", not_sent(event_with { [name] = "a\255" }))
    end)

    it(name .. " over 255 bytes", function()
      assert.equal(("x"):rep(255), read(bytes_of(event_with { [name] = ("x"):rep(255) }))[name])
      starts(not_sent(event_with { [name] = ("x"):rep(256) }, "too_large"), name .. ": 256 bytes")
    end)
  end

  it("type that is missing or empty", function()
    assert.equal("type: missing", not_sent {})
    assert.equal("type: missing", not_sent { type = "" })
  end)

  it("timestamp that is not RFC 3339", function()
    for _, text in ipairs { "now", "2024-01-15", "2024-01-15 10:30:00Z", "2023-02-29T00:00:00Z", "1705314600", "\255" } do
      starts(not_sent(event_with { timestamp = text }), "timestamp: ")
    end
  end)

  it("the place in the payload", function()
    starts(not_sent(event_with { data = { items = { { price = 1 }, { price = 0 / 0 } } } }), "data.items[2].price: NaN")
    starts(not_sent(event_with { data = print }), "data: a function")
    starts(not_sent(event_with { data = { print } }), "data[1]: a function")
    starts(not_sent(event_with { data = "\255" }), "data: invalid UTF-8")
    starts(not_sent(event_with { extra = { a = { print } } }), "extra.a[1]: a function")
    local cycle = {}
    cycle.me = cycle
    starts(not_sent(event_with { data = cycle }), "data.me: a cycle")
  end)

  it("metadata that is no table of names", function()
    for _, value in ipairs { 5, "x", { 1 }, json.array(), true } do
      starts(not_sent(event_with { metadata = value }), "metadata: a table with string keys expected")
    end
    starts(not_sent(event_with { metadata = { user = { print } } }), "metadata.user[1]: a function")
    assert.truthy(bytes_of(event_with { metadata = {} }):find('"metadata":{}', 1, true))
  end)

  it("names of fields that are no text", function()
    assert.truthy(not_sent(event_with { [1] = "x" }):find("field names must be strings", 1, true))
    assert.truthy(not_sent(event_with { [true] = "x" }):find("field names must be strings", 1, true))
    assert.truthy(not_sent(event_with { ["\255"] = "x" }):find("invalid UTF-8", 1, true))
  end)

  it("in a message that is itself UTF-8", function()
    for _, wrong in ipairs {
      { timestamp = "\255" }, { timestamp = ("ї"):rep(50) .. "\255" }, { data = { ["x" .. ("ї"):rep(99)] = print } },
    } do assert(json.encode(not_sent(event_with(wrong)))) end
    local codec = { encode = function() error("x" .. ("ї"):rep(400), 0) end }
    assert(json.encode(not_sent(event_with(), "invalid", { codec = codec })))
  end)

  it("and works on as before", function()
    for _ = 1, 100 do
      not_sent(event_with { data = { ("x"):rep(1000), print } })
      assert.same(event_with(), read(bytes_of(event_with())))
    end
  end)

  it("and raises for misuse", function()
    assert.has_error(function() envelope.encode() end)
    assert.has_error(function() envelope.encode "x" end)
    assert.has_error(function() envelope.encode(event_with(), { coder = cjson }) end)
    assert.has_error(function() envelope.encode(event_with(), { codec = "cjson" }) end)
    assert.has_error(function() envelope.encode(event_with(), cjson) end)
    assert.has_error(function() envelope.decode() end)
    assert.has_error(function() envelope.decode({}) end)
  end)
end)

describe("envelope.decode", function()
  it("accepts what a Go service marshals", function()
    local event = read [[{"id":"evt_550e8400-e29b-41d4-a716-446655440000","type":"order.created","source":"oms-service",
      "timestamp":"2024-01-15T10:30:00.123456789Z","tenant_id":"","data":null}]]
    assert.equal("2024-01-15T10:30:00.123456789Z", event.timestamp)
    assert.equal("", event.tenant_id)
    assert.equal(null, event.data)
    assert.is_nil(event.correlation_id)
    assert.is_nil(event.metadata)
  end)

  it("accepts Go's escapes, offsets and zero time", function()
    local event = read [[{"id":"e","type":"t","source":"","timestamp":"0001-01-01T00:00:00Z","tenant_id":"",
      "data":{"html":"\u003cb\u003e \u0026 \u2028"},"metadata":{"n":1.5,"list":[]}}]]
    assert.equal("<b> & \226\128\168", event.data.html)
    assert.equal("[]", json.encode(event.metadata.list))
    assert.truthy(read [[{"id":"e","type":"t","timestamp":"2024-01-15T12:30:00.5+02:00"}]])
  end)

  it("takes the fields in any order, and null for absent ones", function()
    local event = read [[ {"metadata":null,"data":[1],"tenant_id":null,"correlation_id":null,"source":null,
      "timestamp":"2024-01-15T10:30:00Z","type":"t","id":"e"} ]]
    assert.same({ id = "e", type = "t", timestamp = "2024-01-15T10:30:00Z", data = { 1 } }, event)
  end)

  it("keeps unknown fields, and sends them on", function()
    local text = [[{"id":"e","type":"t","timestamp":"2024-01-15T10:30:00Z","data":{},"x":{"list":[],"null":null}}]]
    assert.equal('{"list":[],"null":null}', json.encode(read(bytes_of(read(text))).x, { sort_keys = true }))
    assert.equal('{"id":"e","type":"t","timestamp":"2024-01-15T10:30:00Z","data":{},"y":[1]}',
      bytes_of(read [[{"y":[1],"data":{},"id":"e","type":"t","timestamp":"2024-01-15T10:30:00Z"}]]))
  end)

  it("keeps an empty list in the payload a list", function()
    assert.truthy(bytes_of(read(bytes_of(event_with { data = { items = json.array() } }))):find('"items":[]', 1, true))
  end)

  it("takes the last of two fields with one name, null too", function()
    local head = [[{"id":"e","type":"t","timestamp":"2024-01-15T10:30:00Z",]]
    assert.equal("b", read(head .. [["tenant_id":"a","tenant_id":"b"}]]).tenant_id)
    assert.is_nil(read(head .. [["tenant_id":"a","tenant_id":null}]]).tenant_id)
    assert.is_nil(read(head .. [["metadata":{"a":1},"metadata":null}]]).metadata)
    assert.equal("z", read(head .. [["id":"z"}]]).id)
  end)

  local id_text = "-1001234567890123456"
  if math.type then
    it("keeps a Telegram chat id exact", function()
      local chat = math.tointeger(id_text)
      local bytes = bytes_of(event_with { data = { chat_id = chat } })
      assert.truthy(bytes:find('"chat_id":' .. id_text, 1, true))
      local back = read(bytes).data.chat_id
      assert.equal(chat, back)
      assert.equal("https://t.me/c?id=" .. id_text, "https://t.me/c?id=" .. back)
    end)

    it("refuses integers beyond 64 bits", function()
      local bytes = bytes_of(event_with()):gsub("12%.5", "9223372036854775808")
      assert.truthy(not_read(bytes):find("9223372036854775808", 1, true))
    end)
  else
    it("says that a Telegram chat id is not exact here, and never changes it", function()
      assert.truthy(not_sent(event_with { data = { chat_id = -1001234567890123456 } }):find "2^53")
      local bytes = bytes_of(event_with()):gsub("12%.5", id_text)
      assert.truthy(not_read(bytes):find(id_text, 1, true))
      assert.truthy(bytes_of(event_with { data = { chat_id = -1001234567890 } }):find('"chat_id":-1001234567890', 1, true))
    end)
  end
end)

describe("envelope.decode names the field that is wrong:", function()
  local function with(name, value)
    local fields = { id = '"e"', type = '"t"', timestamp = '"2024-01-15T10:30:00Z"' }
    fields[name] = value
    local parts = {}
    for key, text in pairs(fields) do
      if text ~= "" then parts[#parts + 1] = ("%q:%s"):format(key, text) end
    end
    return "{" .. table.concat(parts, ",") .. "}"
  end

  for _, name in ipairs { "id", "type", "timestamp" } do
    it(name .. " missing, empty or no text", function()
      assert.equal(('envelope field "%s": missing'):format(name), not_read(with(name, "")))
      assert.equal(('envelope field "%s": empty'):format(name), not_read(with(name, '""')))
      for text, kind in pairs { ["5"] = "a number", ["{}"] = "an object", ["[]"] = "an array", ["null"] = "null" } do
        assert.equal(('envelope field "%s": a string expected, got %s'):format(name, kind), not_read(with(name, text)))
      end
      assert.truthy(not_read(with(name, '"' .. ("x"):rep(1025) .. '"')):find(name, 1, true))
    end)
  end

  for _, name in ipairs { "source", "tenant_id", "correlation_id" } do
    it(name .. " that is no text", function()
      assert.equal(('envelope field "%s": a string expected, got a boolean'):format(name), not_read(with(name, "true")))
      assert.truthy(read(with(name, "null")))
      assert.truthy(read(with(name, '""')))
    end)
  end

  it("metadata that is no object", function()
    for _, text in ipairs { "[]", '"x"', "1" } do
      assert.truthy(not_read(with("metadata", text)):find('"metadata": an object expected', 1, true))
    end
  end)

  it("timestamp that is not RFC 3339", function()
    for _, text in ipairs { "now", "2024-01-15", "2024-01-15 10:30:00", "2024-13-15T10:30:00Z" } do
      assert.truthy(not_read(with("timestamp", '"' .. text .. '"')):find('"timestamp": not RFC 3339', 1, true))
    end
  end)

  it("what is no envelope at all", function()
    for text, kind in pairs { ["[]"] = "an array", ["1"] = "a number", ['"x"'] = "a string", ["null"] = "null" } do
      assert.equal("an envelope is an object, not " .. kind, not_read(text))
    end
    assert.truthy(not_read("{}"):find("missing", 1, true))
  end)

  it("the place, in text that is not JSON", function()
    assert.truthy(not_read(""):find("empty text", 1, true))
    assert.truthy(not_read('{"id":"e",\n "type":x}'):find("line 2, column 9", 1, true))
    assert.truthy(not_read(bytes_of(event_with()) .. "x"):find("something behind the value", 1, true))
    assert.truthy(not_read("\239\187\191" .. bytes_of(event_with())):find("byte order mark", 1, true))
    assert.truthy(not_read((bytes_of(event_with { data = "\1" }):gsub("\\u0001", "\\ud800"))):find("surrogate", 1, true))
  end)

  it("every prefix of an event", function()
    local bytes = bytes_of(event_with { data = { "x\n", { a = { 1.5, true, null } } }, other = { 1 } })
    for n = 0, #bytes - 1 do not_read(bytes:sub(1, n)) end
    for n = 0, #bytes - 1 do not_read(bytes:sub(1, n), { codec = cjson }) end
  end)

  it("a megabyte of brackets in the payload, at once", function()
    local began = os.clock()
    not_read('{"data":' .. ("["):rep(1024 * 1024))
    not_read('{"data":' .. ("["):rep(1024 * 1024), { codec = cjson })
    assert.is_true(os.clock() - began < 1)
  end)
end)

describe("envelope's codec", function()
  local long = { list = { 1, 2, 3 }, text = "a\nb\0c", deep = { { { true } } } }

  it("lua-cjson writes and reads the payload", function()
    local bytes = bytes_of(event_with { data = long }, { codec = cjson })
    assert.same(long, read(bytes).data)
    assert.same(long, read(bytes, { codec = cjson }).data)
    assert.equal("evt_1", read(bytes, { codec = cjson }).id)
  end)

  it("is called with the payload, and with its bytes as they came", function()
    local given
    local codec = {
      encode = function(value) given = value return ' {"a" : 1} ' end,
      decode = function(text) given = text return { "decoded" } end,
    }
    local bytes = bytes_of(event_with { data = long }, { codec = codec })
    assert.equal(long, given)
    assert.truthy(bytes:find('"data": {"a" : 1} ,"metadata"', 1, true))
    assert.same({ "decoded" }, read(bytes, { codec = codec }).data)
    assert.equal('{"a" : 1}', given)
  end)

  it("may be this library's own module", function()
    local bytes = bytes_of(event_with { data = long }, { codec = json })
    assert.same(long, read(bytes, { codec = json }).data)
  end)

  it("that raises is an error with its reason", function()
    local codec = { encode = function() error("no such thing", 0) end, decode = function() error("cannot read", 0) end }
    assert.equal("data: the codec failed: no such thing", not_sent(event_with(), "invalid", { codec = codec }))
    assert.equal('envelope field "data": the codec failed: cannot read',
      not_read(bytes_of(event_with()), { codec = codec }))
    local object = { encode = function() error { message = "in a table" } end, decode = function() error(nil) end }
    assert.equal("data: the codec failed: in a table", not_sent(event_with(), "invalid", { codec = object }))
    not_read(bytes_of(event_with()), { codec = object })
    not_sent(event_with(), "invalid", { codec = {} })
    not_read(bytes_of(event_with()), { codec = {} })
  end)

  it("that answers nil, err is an error, not an event without its payload", function()
    local codec = { encode = function() return nil, "cannot" end, decode = function() return nil, "cannot" end }
    assert.equal("data: the codec failed: cannot", not_sent(event_with(), "invalid", { codec = codec }))
    assert.equal('envelope field "data": the codec failed: cannot',
      not_read(bytes_of(event_with()), { codec = codec }))
    local bytes = bytes_of(event_with()):gsub("12%.5", "123456789012345678901234567890")
    assert.truthy(not_read(bytes, { codec = json }):find("123456789012345678901234567890", 1, true))
    assert.truthy(not_sent(event_with { data = { print } }, "invalid", { codec = json }):find("[1]: a function", 1, true))
    assert.equal("data: the codec failed: nothing came back",
      not_sent(event_with(), "invalid", { codec = { encode = function() return 5 end } }))
  end)

  it("may have nil for null", function()
    local codec = { decode = function() return nil, 5 end }
    assert.is_nil(read(bytes_of(event_with { data = null }), { codec = codec }).data)
  end)

  it("that writes what is not JSON sends nothing", function()
    local deep = ("["):rep(128) .. ("]"):rep(128)
    for _, text in ipairs { "", " ", "}{", "1,2", "1}", '"a', "nan", '"\255"', '{"a":1}x', deep } do
      local codec = { encode = function() return text end }
      starts(not_sent(event_with(), "invalid", { codec = codec }), "data: the codec made invalid JSON at line 1")
    end
    local codec = { encode = function() return ("["):rep(127) .. ("]"):rep(127) end }
    assert.truthy(read(bytes_of(event_with(), { codec = codec })))
  end)

  it("may encode and decode events itself", function()
    local inner = event_with { data = { ("inner\n"):rep(2000) }, id = "evt_inner" }
    local outer = event_with { data = { 1 }, other = ("outer"):rep(1000) }
    local calls = 0
    local codec = {}
    function codec.encode(value)
      calls = calls + 1
      assert.same(inner, read(bytes_of(inner)))
      if calls < 5 then assert(envelope.encode(outer, { codec = codec })) end
      envelope.encode { type = "t", data = print }
      collectgarbage()
      return json.encode(value)
    end
    function codec.decode(text)
      calls = calls + 1
      assert.same(inner, read(bytes_of(inner)))
      envelope.decode '{"id":"x\\n'
      if calls < 5 then assert.same(outer, read(bytes_of(outer), { codec = codec })) end
      collectgarbage()
      return json.decode(text)
    end
    assert.equal(bytes_of(outer), bytes_of(outer, { codec = codec }))
    assert.equal(5, calls)
    calls = 0
    assert.same(outer, read(bytes_of(outer), { codec = codec }))
    assert.equal(5, calls)
  end)

  it("may change the event it belongs to", function()
    local event = event_with { id = ("long id "):rep(20) }
    local codec = { encode = function()
      event.id, event.type = "changed", ("t"):rep(100)
      collectgarbage()
      return "{}"
    end }
    local back = read(bytes_of(event, { codec = codec }))
    assert.equal("changed", back.id)
    assert.equal(("t"):rep(100), back.type)
  end)
end)

describe("envelope called from a finalizer", function()
  it("in the middle of a call works", function()
    local runs, wrong = 0, 0
    local small = event_with { data = { "finalizer\n" } }
    local function work()
      runs = runs + 1
      local bytes = envelope.encode(small)
      local event = bytes and envelope.decode(bytes)
      if not event or event.data[1] ~= "finalizer\n" then wrong = wrong + 1 end
    end
    local items = {}
    for i = 1, 200 do items[i] = { sku = "line\n" .. i, count = i } end
    local event = event_with { data = items }
    for _ = 1, 300 do
      for _ = 1, 20 do garbage(work) end
      local back = read(bytes_of(event))
      assert(back.data[200].sku == "line\n200" and #back.data == 200)
    end
    collectgarbage()
    assert.equal(0, wrong)
    assert.is_true(runs > 1000)
  end)
end)
