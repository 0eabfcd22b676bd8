--- shell: commands for the benchmarks: their output, several at once, each with a deadline.

local shell = {}

function shell.quote(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

--- What a command prints, without the last newlines; "" when it fails.
function shell.output(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null", "r"))
  local text = pipe:read "*a"
  pipe:close()
  return (text:gsub("%s+$", ""))
end

--- Starts a command that is ended after so many seconds. `process:line()` is the next line it prints (nil at its end),
--- `process:wait()` the rest of it, what it said to stderr, and its exit code.
function shell.start(command, seconds)
  local errors = os.tmpname()
  local pipe = assert(io.popen(("timeout --foreground -k 5 %d %s 2>%s; echo code=$?"):format(seconds, command, errors), "r"))
  local process = {}
  function process.line()
    local line = pipe:read "*l"
    if line and not line:match "^code=%d+$" then return line end
    process.code = line and tonumber(line:match "%d+")
  end
  function process.wait()
    local rest = process.code and "" or pipe:read "*a"
    pipe:close()
    local code = process.code or tonumber(rest:match "code=(%d+)%s*$")
    local file = io.open(errors)
    local said = file and file:read "*a" or ""
    if file then file:close() end
    os.remove(errors)
    return (rest:gsub("code=%d+%s*$", "")), said, code
  end
  return process
end

return shell
