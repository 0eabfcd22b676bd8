-- children: the demo's processes, each with a log file of its own.
--
-- Whatever happens to the demo, none of them stays behind: a reaper acts when our end of its pipe closes, and removes the
-- folder. A child writes its own pid into the folder before it tells us, and does not go on when we are gone.

local socket = require "socket"

local children = {}
children.__index = children

local function quote(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end
children.quote = quote

-- Signals of the terminal reach it too, and it must outlive us. A pid counts only while it still runs one of our files.
-- One that is just becoming another program shows only its name, in brackets: what is unknown is looked at once more.
-- A broker in the folder has a guard of its own, which needs the folder until it is done.
local REAPER = [[
trap '' INT TERM HUP
read -r folder
cat >/dev/null
pids=$(cat "$folder/pids" 2>/dev/null)
ours() {
  case "$(ps -ww -p "$1" -o stat=,args= 2>/dev/null)" in
    ''|Z*) return 2 ;;
    *examples/*|*spec/support/*|*spec/chaos/*|*bench/*|*nginx:*/eventbus-*|*bin/eventbus\ *) return 0 ;;
    */eventbus-spec.*|*\ eventbus-spec.lua*) return 0 ;;
  esac
  return 1
}
asked= unknown=
for pid in $pids; do
  ours "$pid"
  case $? in 0) kill -TERM "$pid"; asked="$asked $pid" ;; 1) unknown="$unknown $pid" ;; esac
done
[ -z "$unknown" ] || sleep 2
for pid in $unknown; do if ours "$pid"; then kill -TERM "$pid"; asked="$asked $pid"; fi; done
[ -z "$asked" ] || sleep 2
for pid in $asked; do ours "$pid" && kill -KILL "$pid"; done
tries=0
while [ -d "$folder/broker" ] && [ $tries -lt 20 ]; do sleep 1; tries=$((tries + 1)); done
case "$folder" in */eventbus-*) ;; *) exit ;; esac
# A shell may be writing an exit code there.
tries=0
until rm -rf "$folder" 2>/dev/null || [ $tries -ge 5 ]; do sleep 1; tries=$((tries + 1)); done
]]

local function signal(child, name)
  os.execute(("kill -%s %s 2>/dev/null"):format(name, child.pid))
end
children.signal = signal

function children.new(folder)
  local reaper = assert(io.popen(REAPER, "w"))
  reaper:write(folder, "\n")
  reaper:flush()
  return setmetatable({ folder = folder, list = {}, reaper = reaper }, children)
end

--- Starts `command`, a list of words, with these environment variables; its output goes to a file.
function children:start(name, command, environment)
  local words = { "exec", "env" }
  for variable, value in pairs(environment or {}) do words[#words + 1] = quote(variable .. "=" .. value) end
  for _, word in ipairs(command) do words[#words + 1] = quote(word) end
  local path = ("%s/%s.log"):format(self.folder, name)
  -- The shell in between outlives Ctrl-C and keeps the exit code, which Lua 5.1 does not tell. The child itself, in a
  -- session of its own, gets no Ctrl-C: it stops when we ask it to.
  local inner = ("echo $$ >>%s && echo $$ && %s >%s 2>&1 </dev/null"):format(quote(self.folder .. "/pids"),
    table.concat(words, " "), quote(path))
  local outer = ("exec 2>/dev/null; trap : INT TERM HUP; $(command -v setsid) sh -c %s; echo $? >%s"):format(
    quote(inner), quote(path .. ".code"))
  local pipe = assert(io.popen(outer, "r"))
  local child = { name = name, path = path, pipe = pipe, pid = assert(pipe:read("*l")), position = 0, tail = "" }
  -- Closing the state collects the pipe, and that waits for the child's end; this, younger, is collected first.
  child.last = setmetatable({}, { __gc = function() if child.pipe then signal(child, "KILL") end end })
  self.list[#self.list + 1] = child
  return child
end

--- The complete lines a child has written since the last call.
function children.lines(child)
  local file = io.open(child.path, "rb")
  if not file then return {} end
  file:seek("set", child.position)
  local text = file:read("*a") or ""
  file:close()
  child.position = child.position + #text
  local lines = {}
  child.tail = (child.tail .. text):gsub("([^\n]*)\n", function(line)
    lines[#lines + 1] = line
    return ""
  end)
  return lines
end

--- Has it ended? (A process we have not waited for yet counts as ended.)
function children.ended(child)
  if not child.pipe then return true end
  local pipe = io.popen("ps -p " .. child.pid .. " -o stat= 2>/dev/null", "r")
  local state = pipe:read("*l") or ""
  pipe:close()
  return state == "" or state:sub(1, 1) == "Z"
end

--- Waits for a child that ends by itself; its exit code (128 + n after signal n), nil after the deadline.
function children.wait(child, seconds)
  local deadline = socket.gettime() + seconds
  while true do
    -- Looked at before: the last look is one after the deadline.
    local late = socket.gettime() > deadline
    if children.ended(child) then break end
    if late then return nil end
    socket.sleep(0.05)
  end
  if child.pipe then
    child.pipe:close()
    child.pipe = nil
    local file = io.open(child.path .. ".code", "rb")
    child.code = file and tonumber(file:read("*l"))
    if file then file:close() end
  end
  return child.code
end

--- Asks all to stop, then waits for each. Names those that did not end, or not with 0.
function children:stop()
  local failed = {}
  for _, child in ipairs(self.list) do
    if child.pipe then signal(child, "TERM") end
  end
  for _, child in ipairs(self.list) do
    if child.pipe and not children.wait(child, 20) then
      signal(child, "KILL")
      children.wait(child, 2)
      child.code = 137
    end
    if child.code ~= 0 and not (child.may_be_killed and (child.code or 0) > 128) then
      failed[#failed + 1] = ("%s (%s)"):format(child.name, tostring(child.code))
    end
  end
  return failed
end

--- Ends the reaper, which removes the folder.
function children:close()
  if self.reaper then self.reaper:close() end
  self.reaper = nil
end

return children
