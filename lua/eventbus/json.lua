--- JSON without surprises: integers stay exact, and what JSON cannot say is an error that names its place.
-- Strict both ways (RFC 8259, UTF-8). Written in C, src/lua_value.h and src/eb_json.h; why not lua-cjson for payloads:
-- docs/adr/0003-json-in-c.md. Misuse raises; a value or text that is wrong answers nil, err.

---@class eventbus.json
---@field null lightuserdata  JSON's null, the same as cjson.null and ngx.null
---@field array_mt table      the metatable of what `array` marks and of decoded arrays

---@class eventbus.json.EncodeOptions
---@field max_depth integer|nil  tables in tables, 128 unless told, 1024 at most
---@field sort_keys boolean|nil  names in byte order: the same value gives the same text

---@class eventbus.json.DecodeOptions
---@field max_depth integer|nil    128 unless told, 1024 at most
---@field big "error"|"string"|nil integers that this Lua cannot hold exactly: an error unless told
---@field mark_arrays boolean|nil  false: arrays come without the mark, and an empty one is encoded as {}

local json = require("eventbus.core").json

--- The text of a value. A table with the keys 1..n is an array, any other an object; an empty one is {} unless it is
-- marked (`array`, cjson.array_mt, cjson.empty_array_mt). Raw access: no metamethod runs.
-- The error has the code "invalid", and in `path` the place: "items[2].price".
---@type fun(value: any, options?: eventbus.json.EncodeOptions): string|nil, eventbus.Error|nil
json.encode = json.encode

--- The value of a text. null is `json.null`; of two members with one name the last counts; arrays are marked.
-- The error has the code "malformed", and its message the line, column and byte.
---@type fun(text: string, options?: eventbus.json.DecodeOptions): any, eventbus.Error|nil
json.decode = json.decode

--- Marks a table as an array, so that it is [] also when it is empty; without one makes it.
---@type fun(list?: table): table
json.array = json.array

return json
