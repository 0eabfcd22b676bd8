--- marks: what a program has measured, written into a document: each text stands between <!-- name --> and <!-- /name -->.

local marks = {}

--- Replaces what stands at these names; raises an error, and leaves the document as it is, when it has no place for one.
function marks.write(path, texts)
  local file = assert(io.open(path, "rb"))
  local document = file:read "*a"
  file:close()
  for name, text in pairs(texts) do
    local opening, closing = "<!-- " .. name .. " -->\n", "<!-- /" .. name .. " -->"
    local _, from = document:find(opening, 1, true)
    local to = from and document:find(closing, from, true)
    if not to then error(("%s has no place for %s"):format(path, name), 0) end
    document = document:sub(1, from) .. text .. document:sub(to)
  end
  file = assert(io.open(path, "wb"))
  assert(file:write(document))
  assert(file:close())
end

return marks
