--- AMQP topic patterns: what a broker's topic exchange matches, as pure functions.
-- Words are separated by dots; `*` stands for exactly one word, `#` for any number of words, none included.
-- Matching takes time linear in the key for each `#`, never more: a hostile key cannot make it slow.

local pattern = {}

--- The words of a key or pattern. As in RabbitMQ the empty key has no words, and "a." has two.
---@param text string
---@return string[]
local function words_of(text)
  local words = {}
  if text == "" then return words end
  for word in (text .. "."):gmatch("([^.]*)%.") do
    words[#words + 1] = word
  end
  return words
end

local function match_words(want, have)
  local w, h = 1, 1
  local hash, resume
  while h <= #have do
    local word = want[w]
    if word == "#" then
      hash, resume = w, h
      w = w + 1
    elseif word == "*" or word == have[h] then
      w, h = w + 1, h + 1
    elseif hash then
      resume = resume + 1
      w, h = hash + 1, resume
    else
      return false
    end
  end
  while want[w] == "#" do w = w + 1 end
  return w > #want
end

--- True when `text` holds a wildcard word. "a*b" has none: a star is a wildcard only as a whole word.
---@param text string
---@return boolean
function pattern.is_pattern(text)
  for _, word in ipairs(words_of(text)) do
    if word == "*" or word == "#" then return true end
  end
  return false
end

--- Does a queue bound to a topic exchange with `want` receive what is published with `key`?
---@param want string
---@param key string
---@return boolean
function pattern.matches(want, key)
  if want == key and not want:find("[*#]") then return true end
  return match_words(words_of(want), words_of(key))
end

--- The same for one pattern and many keys: a predicate that has split the pattern once.
---@param want string
---@return fun(key: string): boolean
function pattern.compile(want)
  if not pattern.is_pattern(want) then
    return function(key) return key == want end
  end
  local words = words_of(want)
  return function(key) return match_words(words, words_of(key)) end
end

--- A number that orders patterns matching the same key: the greater is the more specific.
-- More literal words win; then a pattern without `#`; then more `*`; then the longer literal beginning.
---@param want string
---@return integer
function pattern.specificity(want)
  local literals, stars, hashes, leading = 0, 0, 0, 0
  for _, word in ipairs(words_of(want)) do
    if word == "*" then
      stars = stars + 1
    elseif word == "#" then
      hashes = hashes + 1
    else
      literals = literals + 1
      if stars + hashes == 0 then leading = leading + 1 end
    end
  end
  return ((literals * 2 + (hashes == 0 and 1 or 0)) * 256 + stars) * 256 + leading
end

--- The literal words a pattern begins with, joined: "customer" for "customer.*", "" for "#".
---@param want string
---@return string
function pattern.prefix(want)
  local leading = {}
  for _, word in ipairs(words_of(want)) do
    if word == "*" or word == "#" then break end
    leading[#leading + 1] = word
  end
  return table.concat(leading, ".")
end

pattern.words = words_of

return pattern
