--- The fuzzing targets in Lua, over what is kept of their inputs: corpora, and inputs that once broke something. Those in C
-- have spec/c/fuzz_test.c.

local kept = require "spec.fuzz.lua.kept"

describe("every kept input breaks nothing of", function()
  for _, name in ipairs(kept.targets()) do
    it(name, function()
      local inputs = kept.inputs(name)
      assert.is_true(#inputs > 0)
      for _, input in ipairs(inputs) do
        local ok, why = pcall(kept.target(name), input.bytes)
        assert.is_true(ok, input.path .. ": " .. tostring(why))
      end
    end)
  end
end)
