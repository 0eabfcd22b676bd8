--- The module that the Makefile makes is hardened against what a mistake in it could be used for (docs/security.md).

local function read(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local on_elf = read "uname -s":find "Linux" ~= nil

describe("the C module", function()
  if not on_elf then return end

  local module = (os.getenv "EVENTBUS_CPATH" or "./build/lua5.4") .. "/eventbus/core.so"

  it("has no table that can be overwritten once it is loaded, and no code in writable memory", function()
    local text = read("readelf -lWd " .. module)
    assert.is_truthy(text:find("GNU_RELRO", 1, true), text)
    assert.is_truthy(text:find("BIND_NOW", 1, true) or text:find "FLAGS_1.*NOW", text)
    assert.is_truthy(text:match "GNU_STACK[^\n]* RW ", text)
    assert.is_nil(text:find("RWE", 1, true), text)
    assert.is_nil(text:find("TEXTREL", 1, true), text)
  end)

  it("looks for its libraries where the system does, and nowhere else", function()
    local text = read("readelf -d " .. module)
    assert.is_truthy(text:find("NEEDED", 1, true), text)
    assert.is_nil(text:find "RU?N?PATH", text)
  end)

  it("guards its stack and its copies #release", function()
    local text = read("nm -D --undefined-only " .. module)
    assert.is_truthy(text:find("__stack_chk_fail", 1, true), text)
    assert.is_truthy(text:find "__%l+_chk", text)
  end)

  it("shows the host one name", function()
    local names = {}
    for name in read("nm -D --defined-only " .. module):gmatch "[TDBRVW] ([%w_]+)" do names[#names + 1] = name end
    assert.are.same({ "luaopen_eventbus_core" }, names)
  end)

  if read "uname -m":find "x86_64" then
    it("lets no jump land where none was meant to #release", function()
      -- The module's own note of it wants that of Debian's C library, too, which has none.
      local text = read("objdump -d --disassemble=luaopen_eventbus_core " .. module)
      assert.is_truthy(text:find "<luaopen_eventbus_core>:\n[^\n]*endbr64", text)
    end)
  end
end)
