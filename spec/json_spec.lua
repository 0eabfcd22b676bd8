local cjson = require "cjson"
local core = require "eventbus.core"
local json = require "eventbus.json"

local null = json.null

-- json.encode, and the value read back by both libraries.
local function text_of(value, options)
  local text, err = json.encode(value, options)
  assert(text, tostring(err))
  return text
end

local function refused(value, options)
  local text, err = json.encode(value, options)
  assert.is_nil(text)
  assert.equal(core.error_metatable, getmetatable(err))
  assert.equal("invalid", err.code)
  assert.is_false(err.retryable)
  return err.message, err.path
end

local function malformed(text, options)
  local value, err = json.decode(text, options)
  assert.is_nil(value)
  assert.equal(core.error_metatable, getmetatable(err))
  assert.equal("malformed", err.code)
  return err.message
end

-- Deep equality that does not take 1 for 1.0, nor look at metatables.
local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) == "number" and math.type and math.type(a) ~= math.type(b) then return false end
  if type(a) ~= "table" then return a == b end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function nested(depth, make)
  local value = make()
  for _ = 2, depth do value = make(value) end
  return value
end

local function list(inner) return { inner } end
local function object(inner) return { a = inner } end

describe("json.encode", function()
  it("writes the simple values", function()
    assert.equal("null", text_of(nil))
    assert.equal("null", text_of(null))
    assert.equal("true", text_of(true))
    assert.equal("false", text_of(false))
    assert.equal('""', text_of(""))
    assert.equal('"text"', text_of("text"))
    assert.equal("12", text_of(12))
    assert.equal("-12", text_of(-12))
  end)

  it("escapes what must be escaped, and nothing else", function()
    assert.equal([["\"\\/\b\f\n\r\t\u0000\u001f]] .. '\127é€😀"', text_of('"\\/\b\f\n\r\t\0\31\127é€😀'))
  end)

  it("keeps zero bytes in values and names", function()
    local value = { ["a\0b"] = "c\0d" }
    assert.equal([[{"a\u0000b":"c\u0000d"}]], text_of(value))
    assert.same(value, json.decode(text_of(value)))
  end)

  it("writes tables with the keys 1..n as arrays, others as objects", function()
    assert.equal("[1,2,3]", text_of { 1, 2, 3 })
    assert.equal('{"a":1}', text_of { a = 1 })
    assert.equal("[[],{}]", text_of { json.array(), {} })
    assert.equal('["a",null,"b"]', text_of { "a", null, "b" })
  end)

  it("writes a list in its order, whatever order the table has it in", function()
    for n = 1, 70 do
      local elements, want = { a = 1, b = 1, c = 1, d = 1, e = 1, f = 1, g = 1, h = 1 }, {}
      for name in pairs(elements) do elements[name] = nil end
      for i = n, 1, -1 do elements[i], want[i] = { i }, "[" .. i .. "]" end
      assert.equal("[" .. table.concat(want, ",") .. "]", text_of(elements))
    end
  end)

  it("writes the empty table as an object, unless it is marked", function()
    assert.equal("{}", text_of {})
    assert.equal("[]", text_of(json.array {}))
    assert.equal("[]", text_of(json.array()))
    assert.equal("[]", text_of(setmetatable({}, json.array_mt)))
    assert.equal("[1]", text_of(json.array { 1 }))
    assert.equal("{}", text_of(setmetatable({}, { __name = "array" })))
  end)

  it("returns the table that it marks", function()
    local t = {}
    assert.equal(t, json.array(t))
    assert.has_error(function() json.array(1) end)
  end)

  it("honours the sentinels of lua-cjson", function()
    assert.equal("null", text_of(cjson.null))
    assert.equal(cjson.null, null)
    if cjson.empty_array ~= nil then assert.equal("[]", text_of(cjson.empty_array)) end
    if cjson.empty_array_mt then assert.equal("[]", text_of(setmetatable({}, cjson.empty_array_mt))) end
    if cjson.array_mt then assert.equal("[]", text_of(setmetatable({}, cjson.array_mt))) end
  end)

  it("honours those of a newer lua-cjson too", function()
    local own = { cjson.empty_array, cjson.array_mt, cjson.empty_array_mt }
    local array_mt, empty_array_mt = {}, {}
    cjson.array_mt, cjson.empty_array_mt = array_mt, empty_array_mt
    local a = json.encode { setmetatable({}, array_mt), setmetatable({}, empty_array_mt), {} }
    cjson.empty_array, cjson.array_mt, cjson.empty_array_mt = own[1], own[2], own[3]
    assert.equal("[[],[],{}]", a)
  end)

  it("runs no metamethod", function()
    local boom = function() error("a metamethod ran") end
    local mt = { __index = boom, __len = boom, __pairs = boom, __ipairs = boom, __tostring = boom, __newindex = boom }
    assert.equal('{"a":1}', text_of(setmetatable({ a = 1 }, mt)))
    assert.equal("[1]", text_of(setmetatable({ 1 }, mt)))
  end)

  it("sorts names by their bytes when asked", function()
    local value = { b = 1, a = { d = 1, c = { 2, 1 } }, aa = 1, [""] = 0, ["a\0"] = 1, A = 1 }
    assert.equal([[{"":0,"A":1,"a":{"c":[2,1],"d":1},"a\u0000":1,"aa":1,"b":1}]], text_of(value, { sort_keys = true }))
  end)

  it("writes the same table twice when it is no cycle", function()
    local shared = { 1 }
    assert.equal("[[1],[1]]", text_of { shared, shared })
  end)

  it("does not change the value", function()
    local value = { 1, { a = "x", b = { 2.5 } } }
    text_of(value, { sort_keys = true })
    assert.is_true(same({ 1, { a = "x", b = { 2.5 } } }, value))
    assert.is_nil(getmetatable(value[2]))
  end)
end)

describe("json.encode refuses", function()
  local cycle = { a = { {} } }
  cycle.a[1].up = cycle
  local itself = {}
  itself[1] = itself
  local cases = {
    { "a cycle", cycle, "a[1].up", "cycle" },
    { "a list in itself", itself, "[1]", "cycle" },
    { "a function", { items = { { price = 1 }, { price = print } } }, "items[2].price", "function" },
    { "a coroutine", { coroutine.create(function() end) }, "[1]", "thread" },
    { "a userdata", { file = io.stdout }, "file", "userdata" },
    { "NaN", { a = { b = 0 / 0 } }, "a.b", "NaN" },
    { "infinity", { 1, math.huge }, "[2]", "infinity" },
    { "minus infinity", -math.huge, "value", "infinity" },
    { "invalid UTF-8", { note = "ab\255" }, "note", "UTF-8 at byte 3" },
    { "invalid UTF-8 in a name", { a = { ["\195("] = 1 } }, "a", "key with invalid UTF-8 at byte 1" },
    { "an encoded surrogate", "\237\160\128", "value", "UTF-8" },
    { "an overlong zero", "\192\128", "value", "UTF-8" },
    { "a hole", { list = { 1, 2, nil, 4 } }, "list", "list" },
    { "a sparse list", { list = { [3] = 1 } }, "list", "sparse" },
    { "numbers among names", { m = { 1, 2, x = 3 } }, "m", "list" },
    { "a number as a name in a list", { m = { 1, ["2"] = 2 } }, "m", "list" },
    { "names in a list with what cannot be sent", { m = { 1, { print }, x = 3 } }, "m", "list" },
    { "a zero key", { m = { [0] = 1 } }, "m", "string" },
    { "a fractional key", { m = { [1.5] = 1 } }, "m", "string" },
    { "a fractional key in a list", { m = { 1, [1.5] = 1 } }, "m", "list" },
    { "a fractional key for a hole", { m = { 1, 2, nil, 4, [1.5] = 1 } }, "m[3]", "hole" },
    { "a boolean key", { m = { [true] = 1 } }, "m", "key" },
    { "a table key", { m = { [{}] = 1 } }, "m", "key" },
    { "names in a marked array", { m = json.array { a = 1 } }, "m", "list" },
  }
  for _, case in ipairs(cases) do
    for _, sorted in ipairs { false, true } do
      it(case[1] .. (sorted and ", sorted" or ""), function()
        local message, path = refused(case[2], { sort_keys = sorted })
        assert.equal(case[3], path)
        assert.equal(case[3] .. ": ", message:sub(1, #case[3] + 2))
        assert.truthy(message:find(case[4], 1, true), message)
      end)
    end
  end

  it("long names and paths with a short path", function()
    local value = { [("n"):rep(5000)] = print }
    for i = 1, 60 do value = { ["level" .. i] = value } end
    local _, path = refused(value)
    assert.equal("level60.level59.", path:sub(1, 16))
    assert.is_true(#path < 256)
  end)

  it("a long name with a path that is still UTF-8", function()
    local message, path = refused { ["x" .. ("ї"):rep(100)] = print }
    assert.truthy(json.encode { message, path })
    local value = print
    for i = 1, 40 do value = { [("ї"):rep(i)] = value } end
    message, path = refused(value)
    assert.truthy(json.encode { message, path })
  end)

  it("too many levels", function()
    assert.truthy(json.encode(nested(128, list)))
    assert.truthy(json.encode(nested(128, object)))
    assert.truthy((refused(nested(129, list))):find "nested too deep")
    assert.truthy((refused(nested(129, object))):find "nested too deep")
    assert.truthy(json.encode(nested(3, list), { max_depth = 3 }))
    refused(nested(4, list), { max_depth = 3 })
    for _, make in ipairs { list, object } do
      assert.truthy(json.encode(nested(1024, make), { max_depth = 1024 }))
      assert.truthy(json.encode(nested(1024, make), { max_depth = 1024, sort_keys = true }))
      refused(nested(1025, make), { max_depth = 1024 })
    end
  end)

  it("unknown options and wrong values, at the caller", function()
    local function raises(options, words)
      local ok, err = pcall(function() json.encode(1, options) end)
      assert.is_false(ok)
      assert.truthy(err:find("json_spec.lua", 1, true), err)
      assert.truthy(err:find(words, 1, true), err)
    end
    raises({ sorted = true }, "unknown option 'sorted'")
    raises({ max_depth = 0 }, "max_depth")
    raises({ max_depth = 1025 }, "max_depth")
    raises({ max_depth = 0 / 0 }, "max_depth")
    raises({ max_depth = "many" }, "max_depth must be a number")
    raises({ true }, "option names")
    assert.has_error(function() json.encode(1, "sort_keys") end)
    assert.has_error(function() json.encode() end)
  end)

  it("and works on as before", function()
    for _ = 1, 100 do
      refused { ("x"):rep(1000), print }
      assert.equal("[1]", text_of { 1 })
    end
  end)
end)

describe("json.decode", function()
  it("reads the simple values", function()
    assert.equal(null, json.decode "null")
    assert.equal(true, json.decode "true")
    assert.equal(false, json.decode "false")
    assert.equal("", json.decode '""')
    assert.equal(12, json.decode " 12 ")
    assert.equal(-0.5, json.decode "-0.5")
    assert.equal(1000, json.decode "1e3")
  end)

  it("reads escapes and pairs of surrogates", function()
    assert.equal('"\\/\b\f\n\r\tAé€😀\0', json.decode [["\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\uD83D\ude00\u0000"]])
  end)

  it("marks arrays, so that an empty one stays one", function()
    assert.equal(json.array_mt, getmetatable(json.decode "[]"))
    assert.equal('{"a":[],"b":{}}', text_of(json.decode '{"b":{},"a":[]}', { sort_keys = true }))
    assert.is_nil(getmetatable(json.decode "{}"))
    assert.is_nil(getmetatable(json.decode("[]", { mark_arrays = false })))
    assert.equal("{}", text_of(json.decode("[]", { mark_arrays = false })))
  end)

  it("keeps null, also in the middle of a list", function()
    local value = json.decode '[null,1,null,{"a":null}]'
    assert.equal(4, #value)
    assert.equal(null, value[1])
    assert.equal(null, value[4].a)
    assert.equal('[null,1,null,{"a":null}]', text_of(value))
  end)

  it("takes the last of two members with one name", function()
    assert.equal(2, json.decode('{"a":1,"a":2}').a)
    assert.equal(null, json.decode('{"a":1,"\\u0061":null}').a)
  end)

  it("reads whole numbers beyond exactness as an error, or as text", function()
    for _, digits in ipairs { "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890" } do
      assert.truthy(malformed("[" .. digits .. "]"):find(digits, 1, true))
      assert.truthy(malformed("[" .. digits .. "]", { big = "error" }))
      assert.equal(digits, json.decode("[" .. digits .. "]", { big = "string" })[1])
    end
    assert.equal(1.5, json.decode("1.5", { big = "string" }))
    assert.equal(12, json.decode("12", { big = "string" }))
  end)

  it("reads a text of ten megabytes", function()
    local long = ("0123456789"):rep(1024 * 1024)
    assert.is_true(json.decode(text_of(long)) == long)
    local quotes = ('"\\\n'):rep(1024 * 1024)
    assert.is_true(json.decode(text_of(quotes)) == quotes)
    local wide = ("їжак"):rep(512 * 1024)
    assert.is_true(json.decode(text_of(wide)) == wide)
  end)

  it("reads a list of many and an object of many", function()
    local items, names = {}, {}
    for i = 1, 200000 do
      items[i] = i
      names["k" .. i] = i
    end
    assert.is_true(same(items, json.decode(text_of(items))))
    assert.is_true(same(names, json.decode(text_of(names))))
  end)

  it("makes room as for the last table of a level, but not again for each that it holds", function()
    local big, deep = "[" .. ("0,"):rep(20000) .. "0]", ("["):rep(90) .. ("]"):rep(90)
    local text = ("["):rep(20) .. big .. "," .. deep .. "," .. big .. ("]"):rep(20)
    local before = collectgarbage() and collectgarbage "count"
    local value = json.decode(text)
    assert.is_true(collectgarbage "count" - before < 4000)
    assert.equal(3, #value[1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1])
  end)
end)

describe("json.decode refuses", function()
  local cases = {
    { "empty text", "", "line 1, column 1 (byte 1): empty text" },
    { "only space", " \n ", "line 2, column 2 (byte 4): the text ends too early" },
    { "trailing bytes", "{}\n x", "line 2, column 2 (byte 5): something behind" },
    { "a second value", "1 2", "column 3" },
    { "a zero byte behind the value", "1\0", "column 2" },
    { "a byte order mark", "\239\187\191{}", "column 1 (byte 1): a byte order mark" },
    { "a lone high surrogate", [["a\ud800"]], "column 3 (byte 3): a lone surrogate" },
    { "a lone low surrogate", [["\udc00"]], "a lone surrogate" },
    { "two high surrogates", [["\ud800\ud800"]], "a lone surrogate" },
    { "half an escape at the end", [["\ud800\u"]], "a lone surrogate" },
    { "a surrogate in UTF-8", '"\237\160\128"', "invalid UTF-8" },
    { "invalid UTF-8", '{"a":"x\255"}', "column 8 (byte 8): invalid UTF-8" },
    { "invalid UTF-8 in a name", '{"\195(":1}', "invalid UTF-8" },
    { "a character split by an escape", '"\195\\n"', "invalid UTF-8" },
    { "a control character", '["a\tb"]', "column 4 (byte 4): a control character" },
    { "a raw line feed", '"a\nb"', "a control character" },
    { "a leading zero", "[01]", "column 2 (byte 2): a leading zero" },
    { "a leading plus", "+1", "a value expected" },
    { "a bare fraction", ".5", "a value expected" },
    { "an unfinished fraction", "1.", "a digit expected" },
    { "an unfinished exponent", "1e+", "a digit expected" },
    { "hexadecimal", "0x10", "something behind the value" },
    { "NaN", "NaN", "a value expected" },
    { "Infinity", "-Infinity", "a digit expected" },
    { "a number beyond a double", "[1e999]", "a number beyond a double" },
    { "a comma too many", "[1,]", "a value expected" },
    { "a comma too many in an object", '{"a":1,}', "a name in quotes" },
    { "a missing comma", "[1 2]", "',' or ']' expected" },
    { "a missing colon", '{"a" 1}', "':' expected" },
    { "a bare name", "{a:1}", "a name in quotes" },
    { "single quotes", "{'a':1}", "a name in quotes" },
    { "a comment", "[1 // one\n]", "',' or ']'" },
    { "the wrong bracket", "[}", "a value expected" },
    { "an unknown escape", [["\x41"]], "no such escape" },
    { "short hexadecimal", [["\u12"]], "four hexadecimal" },
    { "half a word", "[tru]", "a value expected" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local message = malformed(case[2])
      assert.truthy(message:find(case[3], 1, true), message)
    end)
  end

  it("every prefix of a document", function()
    local text = [[{"a":[1,2.5e3,"x\u00e9\n",true,false,null,{}],"b":{"c":"ї"}}]]
    for n = 0, #text - 1 do malformed(text:sub(1, n)) end
    assert.truthy(json.decode(text))
  end)

  it("too many levels", function()
    for _, ends in ipairs { { "[", "]" }, { '{"a":', "}" } } do
      local function text(n) return ends[1]:rep(n) .. "1" .. ends[2]:rep(n) end
      assert.truthy(json.decode(text(128)))
      assert.truthy(malformed(text(129)):find "nested too deep")
      assert.truthy(json.decode(text(1024), { max_depth = 1024 }))
      assert.truthy(malformed(text(1025), { max_depth = 1024 }):find "nested too deep")
      assert.truthy(malformed(text(2), { max_depth = 1 }):find "nested too deep")
    end
  end)

  it("a megabyte of brackets, at once", function()
    local began = os.clock()
    assert.truthy(malformed(("["):rep(1024 * 1024)):find "nested too deep")
    assert.truthy(malformed(('{"":'):rep(1024 * 1024)):find "nested too deep")
    assert.truthy(malformed(("]"):rep(1024 * 1024)))
    -- What is quadratic takes hours; a sanitizer on a busy machine takes seconds.
    assert.is_true(os.clock() - began < 60)
  end)

  it("unknown options and wrong values, at the caller", function()
    local function raises(options, words)
      local ok, err = pcall(function() json.decode("1", options) end)
      assert.is_false(ok)
      assert.truthy(err:find("json_spec.lua", 1, true), err)
      assert.truthy(err:find(words, 1, true), err)
    end
    raises({ marks = true }, "unknown option 'marks'")
    raises({ big = "float" }, "big must be")
    raises({ big = true }, "big must be")
    raises({ max_depth = 0 }, "max_depth")
    assert.has_error(function() json.decode() end)
    assert.has_error(function() json.decode {} end)
  end)
end)

describe("json's floats", function()
  it("are written as short as they read back", function()
    assert.equal("0.1", text_of(0.1))
    assert.equal("19.99", text_of(19.99))
    assert.equal("-0.3", text_of(-0.3))
    assert.equal("0.30000000000000004", text_of(0.1 + 0.2))
    assert.equal("1e+22", text_of(1e22))
    assert.equal("5e-324", text_of(5e-324))
    assert.equal("1.7976931348623157e+308", text_of(1.7976931348623157e308))
  end)

  it("come back exactly", function()
    local seed = 7
    local function random()
      seed = (seed * 16807) % 2147483647
      return seed / 2147483647
    end
    for _ = 1, 20000 do
      local v = (random() + random() / 2 ^ 31) * 2 ^ math.floor(random() * 150 - 100)
      assert(json.decode(text_of(v)) == v, v)
    end
  end)

  it("do not depend on the locale", function()
    local before = os.setlocale(nil, "numeric")
    for _, name in ipairs { "de_DE.UTF-8", "uk_UA.UTF-8", "fr_FR.UTF-8" } do
      if os.setlocale(name, "numeric") then break end
    end
    local text, value = json.encode { 0.5, 1.5e-300, 1 / 3 }, json.decode "[0.5,1.5e-300,0.3333333333333333]"
    os.setlocale(before, "numeric")
    assert.equal("[0.5,1.5e-300,0.3333333333333333]", text)
    assert.is_true(same({ 0.5, 1.5e-300, 1 / 3 }, value))
  end)
end)

if math.type then
  describe("json's integers, in a Lua that has them", function()
    it("stay integers, and floats floats", function()
      assert.equal("12", text_of(12))
      assert.equal("1000.0", text_of(1000.0))
      assert.equal("-0.0", text_of(-0.0))
      assert.equal("integer", math.type(json.decode "12"))
      assert.equal("integer", math.type(json.decode "-0"))
      assert.equal("float", math.type(json.decode "1000.0"))
      assert.equal("float", math.type(json.decode "1e3"))
      assert.equal("float", math.type(json.decode(text_of(1000.0))))
      assert.equal("float", math.type(json.decode(text_of(1e15))))
      assert.equal("float", math.type(json.decode(text_of(1e300))))
    end)

    it("are exact over 64 bits", function()
      for _, v in ipairs {
        0, 1, -1, 9007199254740993, -9007199254740993, -1001234567890123456, math.maxinteger, math.mininteger,
        math.maxinteger - 1, math.mininteger + 1,
      } do
        assert.equal(("%d"):format(v), text_of(v))
        assert.equal(v, json.decode(text_of(v)))
        assert.equal("integer", math.type(json.decode(text_of(v))))
      end
    end)

    it("are exact for every power of two and its neighbours", function()
      local power = 1
      for _ = 0, 63 do
        for around = -1, 1 do assert.equal(power + around, json.decode(text_of(power + around))) end
        power = power * 2
      end
    end)

    it("take keys that are whole floats as list positions, as Lua does", function()
      assert.equal("[1,2]", text_of { [1.0] = 1, [2.0] = 2 })
    end)
  end)
else
  describe("json's whole numbers, in a Lua without integers", function()
    it("are written without point or exponent up to 2^53", function()
      assert.equal("12", text_of(12))
      assert.equal("1000", text_of(1000.0))
      assert.equal("0", text_of(-0.0))
      assert.equal("1000000000000000", text_of(1e15))
      assert.equal("9007199254740992", text_of(2 ^ 53))
      assert.equal("-9007199254740992", text_of(-2 ^ 53))
      assert.equal("-1001234567890", text_of(-1001234567890))
    end)

    it("that are not exact are refused, not changed", function()
      assert.truthy((refused { id = 2 ^ 53 + 2 }):find("2^53", 1, true))
      refused(-2 ^ 60)
      assert.equal("1e+300", text_of(1e300))
    end)

    it("that would not be exact are an error, or text", function()
      assert.equal(2 ^ 53, json.decode "9007199254740992")
      assert.equal(-2 ^ 53, json.decode "-9007199254740992")
      for _, digits in ipairs { "9007199254740993", "-9007199254740993", "-1001234567890123456", "9223372036854775807" } do
        assert.truthy(malformed(digits):find("2^53", 1, true))
        assert.equal(digits, json.decode(digits, { big = "string" }))
      end
    end)
  end)
end

describe("json.decode, text after text,", function()
  it("tells names apart that are as long and nearly alike, in whatever order they come", function()
    local texts = {}
    for size = 1, 40 do
      for _, at in ipairs { 1, math.ceil(size / 2), size } do
        for _, letter in ipairs { "a", "b", "\\n" } do
          texts[#texts + 1] = ("x"):rep(at - 1) .. letter .. ("x"):rep(size - at)
        end
      end
    end
    for round = 1, 3 do
      for i = 1, #texts do
        local text = texts[(i * 7 * round) % #texts + 1]
        local name, value = next(json.decode(('{"%s":%d}'):format(text, i)))
        assert.are.equal(text:gsub("\\n", "\n"), name)
        assert.are.equal(i, value)
      end
    end
  end)

  it("reads escapes and what is between them, however they stand", function()
    local parts = { '"', "\\", "\n", "\t", "\0", "a", "bcd", ("plain "):rep(4), "ї", "€", "😀", "\127" }
    local seed = 1
    local function random(n)
      seed = (seed * 16807) % 2147483647
      return seed % n + 1
    end
    for _ = 1, 3000 do
      local text = {}
      for i = 1, random(60) do text[i] = parts[random(#parts)] end
      text = table.concat(text)
      local written = text_of(text)
      assert.is_true(json.decode(written) == text)
      -- The same where the text ends: nothing is read behind it.
      for _, cut in ipairs { 1, 2, 9, 17, 33 } do assert.is_nil((json.decode(written:sub(1, -1 - cut)))) end
    end
  end)
end)
