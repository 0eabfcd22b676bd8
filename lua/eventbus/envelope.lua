--- The standard envelope: id, type, source, timestamp, tenant_id, correlation_id, data, metadata, as JSON in this order.
-- Other fields are kept and follow. Written in C, src/lua_envelope.h. Misuse raises; an event or bytes that are wrong
-- answer nil, err, and the message names the field.

---@class eventbus.Event
---@field id string                   "evt_" and a UUIDv7; at most 255 bytes, as every text here
---@field type string                 "order.created"
---@field source string|nil
---@field timestamp string            RFC 3339, kept as it was written
---@field tenant_id string|nil
---@field correlation_id string|nil
---@field data any                    the payload; null is json.null
---@field metadata table<string, any>|nil

---@class eventbus.Codec             any JSON library: lua-cjson, dkjson, ...
---@field encode fun(value: any): string|nil, any
---@field decode fun(text: string): any, any

---@class eventbus.envelope.Options
---@field codec eventbus.Codec|nil    reads and writes `data`; the envelope around it stays ours

---@class eventbus.envelope
local envelope = require("eventbus.core").envelope

--- An event with these fields, and with an id and a timestamp. Raises for an unknown field and without a type.
---@type fun(fields: table): eventbus.Event
envelope.new = envelope.new

--- The bytes of an event; id and timestamp are made when it has none. `data` that is nil is sent as null.
---@type fun(event: table, options?: eventbus.envelope.Options): string|nil, eventbus.Error|nil
envelope.encode = envelope.encode

--- The event in some bytes. id, type and timestamp must be there; null stands for an absent text or metadata.
---@type fun(bytes: string, options?: eventbus.envelope.Options): eventbus.Event|nil, eventbus.Error|nil
envelope.decode = envelope.decode

return envelope
