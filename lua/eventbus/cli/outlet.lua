--- An outlet: a stream that is written to without ever waiting for its reader. What a pipe or terminal does not take now is
-- kept, up to a bound; past the bound `write` says so, and the caller decides what to leave out.
-- Files, and everything where luv is missing, are written to directly: they have no reader to wait for.

local exit = require "eventbus.cli.exit"

local outlet = {}

local LIMIT = 1024 * 1024

---@class eventbus.cli.Outlet
---@field kept integer  bytes that wait for the reader
local Outlet = {}
Outlet.__index = Outlet

-- A handle of luv whose try_write answers "EAGAIN" instead of waiting; nil where there is no need of one.
local function handle_of(uv, fd)
  local kind = uv.guess_handle(fd)
  -- A terminal is opened anew by luv, so that the shell's own description stays as it was.
  if kind == "tty" then return uv.new_tty(fd, false) end
  if kind ~= "pipe" then return nil end
  local pipe = uv.new_pipe(false)
  if pipe and pipe:open(fd) then return pipe end
  return nil
end

--- An outlet over a stream and its descriptor. `limit`: bytes it keeps (1 MiB).
---@param stream file*
---@param fd integer
---@param limit? integer
---@return eventbus.cli.Outlet
function outlet.new(stream, fd, limit)
  local there, uv = pcall(require, "luv")
  local self = setmetatable({ stream = stream, fd = fd, uv = there and uv or nil, list = {}, first = 1, last = 0,
    kept = 0, limit = limit or LIMIT }, Outlet)
  stream:flush()
  self.handle = there and handle_of(uv, fd) or nil
  return self
end

local function direct(self, text)
  local ok, err = self.stream:write(text)
  if ok then ok, err = self.stream:flush() end
  if not ok then exit.unwritable(err) end
end

--- Hands over to the reader what it takes now; whether anything went. Ends the command when nobody reads any more.
---@return boolean
function Outlet:pump()
  local any = false
  while self.first <= self.last do
    local text = self.list[self.first]
    local n, err, name = self.handle:try_write(text)
    if not n then
      if name == "EAGAIN" or tostring(err):find("EAGAIN", 1, true) then return any end
      exit.unwritable(err)
    end
    any, self.kept = true, self.kept - n
    if n < #text then
      self.list[self.first] = text:sub(n + 1)
      return any
    end
    self.list[self.first] = nil
    self.first = self.first + 1
  end
  self.first, self.last = 1, 0
  return any
end

--- Writes a text, or keeps it for the reader. False: too much is kept already, and this was not.
---@param text string
---@return boolean
function Outlet:write(text)
  if not self.handle then
    direct(self, text)
    return true
  end
  if self.kept > 0 then self:pump() end
  if self.kept >= self.limit then return false end
  self.last = self.last + 1
  self.list[self.last], self.kept = text, self.kept + #text
  self:pump()
  return true
end

--- The end: waits for the reader as long as it goes on reading, `patience` seconds after it last did. The bytes that it
-- never took. The stream is as it was before: it waits again.
---@param patience number
---@return integer
function Outlet:finish(patience)
  if not self.handle then return 0 end
  local now = require("eventbus.core").now
  local deadline = now() + patience
  while self.kept > 0 and now() < deadline do
    if self:pump() then deadline = now() + patience else self.uv.sleep(10) end
  end
  -- The descriptor of a pipe is shared with whoever else writes to it, and they expect to wait.
  if self.uv.guess_handle(self.fd) == "pipe" then self.uv.stream_set_blocking(self.handle, true) end
  return self.kept
end

return outlet
