--- The fuzzing targets in Lua that run on any Lua, and what is kept of their inputs.

local kept = {}

local function paths_of(folder, options)
  local paths = {}
  local pipe = assert(io.popen(("[ ! -d %s ] || find %s %s -type f | LC_ALL=C sort"):format(folder, folder, options or "")))
  for path in pipe:lines() do paths[#paths + 1] = path end
  pipe:close()
  return paths
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "*a"
  file:close()
  return bytes
end

--- Their names. Headers reach Lua by a delivery only, or by a program of libFuzzer.
function kept.targets()
  local names = {}
  for _, path in ipairs(paths_of("spec/fuzz", "-maxdepth 1 -name '*.lua'")) do
    local name = path:match "([%w_]+)%.lua$"
    if name ~= "lua_headers" then names[#names + 1] = name end
  end
  return names
end

--- A function of an input, which raises what was broken.
function kept.target(name) return require("spec.fuzz." .. name) end

--- Those of the corpus, and those that broke something once.
---@return { path: string, bytes: string }[]
function kept.inputs(name)
  local inputs = {}
  for _, folder in ipairs { "spec/fuzz/corpus/", "spec/fuzz/regressions/" } do
    for _, path in ipairs(paths_of(folder .. name)) do inputs[#inputs + 1] = { path = path, bytes = read(path) } end
  end
  return inputs
end

return kept
