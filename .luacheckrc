-- The library runs on 5.1 to 5.4 and LuaJIT: "max" knows the globals of all of them.
std = "max"
max_line_length = 125
-- `self` that a method does not need is still its receiver.
self = false
exclude_files = { "build", "lua_modules" }
files["spec"] = { std = "max+busted" }
files["bench/peers_spec.lua"] = { std = "max+busted" }
files["examples/openresty"] = { std = "max+ngx_lua" }
files["rockspec"] = { std = "rockspec" }
files[".luacheckrc"] = { std = "luacheckrc" }
