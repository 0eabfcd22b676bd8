--- A file that a command writes: whole or not at all. What was there stays until the new one is complete on disk.

local exit = require "eventbus.cli.exit"

local file = {}

-- A device or pipe is written as it is: a rename would replace it by a file.
local function is_special(path)
  local ok = os.execute(("test -e '%s' -a ! -f '%s'"):format(path:gsub("'", "'\\''"), path:gsub("'", "'\\''")))
  return ok == true or ok == 0
end

-- True, or nil and why.
local function put(path, text)
  local handle, err = io.open(path, "wb")
  if not handle then return nil, err end
  local ok
  ok, err = handle:write(text)
  if ok then ok, err = handle:flush() end
  local closed, why = handle:close()
  if not ok then return nil, err end
  return closed, why
end

--- Writes a file: beside it first, then in its place. Ends the command when that fails, with the old file intact.
---@param path string
---@param text string
function file.write(path, text)
  local temporary = not is_special(path) and ("%s.%d.tmp"):format(path, require("eventbus.core").pid()) or nil
  local called, ok, err = pcall(put, temporary or path, text)
  if called and ok and temporary then ok, err = os.rename(temporary, path) end
  if called and ok then return end
  if temporary then os.remove(temporary) end
  -- Ctrl-C.
  if not called then error(ok, 0) end
  -- Lua puts the name of the file in front.
  local why, name = tostring(err), (temporary or path) .. ": "
  if why:sub(1, #name) == name then why = why:sub(#name + 1) end
  exit.fail(("cannot write %s: %s"):format(path, why), "nothing was changed there")
end

--- Writes to the file of `-o`, or to the command's output.
---@param cli table
---@param path string|nil
---@param text string
function file.output(cli, path, text)
  if not path or path == "-" then
    cli.out:write(text)
    cli.out:flush()
  else
    file.write(path, text)
  end
end

--- Adds the option -o to a command of the parser.
---@param parser table
function file.option(parser)
  parser:option("-o --output", "Write to this file, whole or not at all; default: standard output."):argname("FILE")
end

return file
