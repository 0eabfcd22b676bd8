--- The whole screen of a terminal, for a live view: the alternate screen, keys one by one, and everything as it was
-- before, however it ends: a key, a signal, an error. Needs luv.

local exit = require "eventbus.cli.exit"

local fullscreen = {}

local ENTER = "\27[?1049h\27[?25l\27[?7l"
local LEAVE = "\27[?7h\27[?25h\27[?1049l"

local KEYS = {
  ["\27[A"] = "up", ["\27[B"] = "down", ["\27OA"] = "up", ["\27OB"] = "down", k = "up", j = "down",
  ["\27[5~"] = "page up", ["\27[6~"] = "page down", ["\27[H"] = "home", ["\27[F"] = "end", ["\27OH"] = "home",
  ["\27OF"] = "end", ["\27[1~"] = "home", ["\27[4~"] = "end", g = "home", G = "end", [" "] = "now", r = "now",
  q = "quit", Q = "quit", ["\3"] = "interrupt", ["\26"] = "suspend", ["\4"] = "quit",
}

local SIGNALS = { sigint = exit.INTERRUPTED, sigterm = 143, sighup = 129 }

--- The names of the keys in what a terminal sent.
---@param bytes string
---@return string[]
function fullscreen.keys(bytes)
  local keys, at = {}, 1
  while at <= #bytes do
    local sequence = bytes:match("^\27%[[%d;?]*[%a~]", at) or bytes:match("^\27O%a", at) or bytes:sub(at, at)
    keys[#keys + 1] = KEYS[sequence]
    at = at + #sequence
  end
  return keys
end

---@class eventbus.cli.Screen
---@field draw fun(width: integer, height: integer): string[]  all lines of the window, each filling it
---@field tick fun()                     called each interval, and on "now"; may block for a while
---@field key fun(name: string, height: integer)
---@field interval number                seconds

--- Shows `screen` until the user quits or a signal comes: the exit code. An error of a function of the screen is raised
-- once the terminal is as it was.
---@param out eventbus.cli.Terminal
---@param screen eventbus.cli.Screen
---@return integer
function fullscreen.run(out, screen)
  local there, uv = pcall(require, "luv")
  if not there then exit.fail("the live view needs luv", "apt-get install lua-luv, or use --once") end
  local handles, failed, code = {}, nil, nil
  local input = uv.guess_handle(0) == "tty" and uv.new_tty(0, true) or nil
  handles[1] = input

  local function stop(with)
    code = code or with
    uv.stop()
  end
  -- An error in a callback would end the process with the terminal as it is.
  local function safely(f)
    return function(...)
      local ok, raised = pcall(f, ...)
      if ok then return end
      failed = failed or { raised }
      uv.stop()
    end
  end

  local function enter()
    if input then input:set_mode(1) end
    out:write(ENTER)
  end
  local function leave()
    if input then input:set_mode(0) end
    out:write(LEAVE)
    out:flush()
  end
  local function redraw()
    local width, height = out:size()
    local lines = screen.draw(width, height)
    -- In one write and over the old picture, each line as wide as the window: nothing is erased, nothing flickers.
    out:write("\27[?2026h\27[H", table.concat(lines, "\r\n"), "\27[?2026l")
    out:flush()
  end

  local timer = uv.new_timer()
  handles[#handles + 1] = timer
  local turn
  local function arm(ms) timer:start(ms, 0, turn) end
  turn = safely(function()
    screen.tick()
    redraw()
    if not code then arm(math.max(math.floor(screen.interval * 1000), 1)) end
  end)

  local function suspend()
    leave()
    uv.kill(0, "sigtstp")
    -- Here again once somebody has said fg.
    enter()
    redraw()
  end

  local function pressed(name)
    if name == "quit" then
      stop(exit.OK)
    elseif name == "interrupt" then
      stop(exit.INTERRUPTED)
    elseif name == "suspend" then
      suspend()
    elseif name == "now" then
      arm(0)
    else
      local _, height = out:size()
      screen.key(name, height)
      redraw()
    end
  end

  for name, with in pairs(SIGNALS) do
    local handle = uv.new_signal()
    handles[#handles + 1] = handle
    handle:start(name, function() stop(with) end)
  end
  local resized = uv.new_signal()
  handles[#handles + 1] = resized
  resized:start("sigwinch", safely(redraw))

  local entered, problem = pcall(function()
    enter()
    redraw()
    if input then
      input:read_start(safely(function(err, bytes)
        if err or not bytes then return stop(129) end
        for _, name in ipairs(fullscreen.keys(bytes)) do pressed(name) end
      end))
    end
    arm(math.max(math.floor(screen.interval * 1000), 1))
    -- A signal that came while a tick blocked has stopped the loop before it began.
    if not code then uv.run() end
  end)
  -- Before the handles close: it is the open one that knows how the terminal was.
  local left, why = pcall(leave)
  for _, handle in ipairs(handles) do
    if not handle:is_closing() then handle:close() end
  end
  uv.run("nowait")
  if not entered then error(problem, 0) end
  if failed then error(failed[1], 0) end
  if not left then error(why, 0) end
  return code or exit.OK
end

return fullscreen
