--- A file that a command writes: whole or not at all. What was there stays until the new one is complete on disk.

local exit = require "eventbus.cli.exit"

local file = {}

local function fail(path, temporary, err)
  if temporary then os.remove(temporary) end
  -- Lua puts the name of the temporary file in front.
  local why = tostring(err)
  if temporary and why:sub(1, #temporary + 2) == temporary .. ": " then why = why:sub(#temporary + 3) end
  exit.fail(("cannot write %s: %s"):format(path, why), "nothing was changed there")
end

-- A device or pipe is written as it is: a rename would replace it by a file.
local function is_special(path)
  local ok = os.execute(("test -e '%s' -a ! -f '%s'"):format(path:gsub("'", "'\\''"), path:gsub("'", "'\\''")))
  return ok == true or ok == 0
end

--- Writes a file: beside it first, then in its place. Ends the command when that fails, with the old file intact.
---@param path string
---@param text string
function file.write(path, text)
  local special = is_special(path)
  local target = special and path or ("%s.%d.tmp"):format(path, require("eventbus.core").pid())
  local temporary = not special and target or nil
  local handle, err = io.open(target, "wb")
  if not handle then fail(path, nil, tostring(err):gsub("^.-: ", "", 1)) end
  local ok
  ok, err = handle:write(text)
  if ok then ok, err = handle:flush() end
  local closed, why = handle:close()
  if not ok then fail(path, temporary, err) end
  if not closed then fail(path, temporary, why) end
  if temporary then
    ok, err = os.rename(temporary, path)
    if not ok then fail(path, temporary, err) end
  end
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
