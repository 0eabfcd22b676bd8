--- pattern: any topic pattern and key, the two lines of the input. The answer is that of the plainest way to tell.

local pattern = require "eventbus.pattern"

local is_there, in_place = pcall(require, "spec.fuzz.in_place")

-- Beyond these words the plain way takes too long.
local WORDS = 24

local function plainly(want, have, w, h)
  if w > #want then return h > #have end
  if want[w] == "#" then
    return plainly(want, have, w + 1, h) or (h <= #have and plainly(want, have, w, h + 1))
  end
  return h <= #have and (want[w] == "*" or want[w] == have[h]) and plainly(want, have, w + 1, h + 1)
end

return function(input)
  local want, have = input:match "^([^\n]*)\n?(.*)$"
  if is_there then in_place.cover() end
  local answer = pattern.matches(want, have)
  assert(type(answer) == "boolean")
  assert(pattern.compile(want)(have) == answer, "compiled, it answers otherwise")
  assert(pattern.matches("#", have) and pattern.matches(have, have))
  local words = pattern.words(want)
  local _, hashes = want:gsub("#", "")
  if #words <= WORDS and #pattern.words(have) <= WORDS and hashes <= 4 then
    assert(plainly(words, pattern.words(have), 1, 1) == answer, "not as AMQP has it")
  end
  assert(pattern.is_pattern(want) or answer == (want == have))
  assert(pattern.specificity(want) >= 0 and want:sub(1, #pattern.prefix(want)) == pattern.prefix(want))
  debug.sethook()
end
