--- The lines that come out of a pipe of luv's: each is handed on when it is complete; what is longer than the limit, and the
-- end of a stream without a newline, as it is.

local lines = {}

--- Reads until the stream ends, then calls `ended` once.
---@param pipe any                    luv's
---@param longest integer             bytes
---@param line fun(text: string)
---@param ended fun()
function lines.read(pipe, longest, line, ended)
  local rest = ""
  local function whole(text)
    line(text)
    return ""
  end
  pipe:read_start(function(_, data)
    if data then
      rest = (rest .. data):gsub("([^\n]*)\n", whole)
      if #rest > longest then rest = whole(rest) end
      return
    end
    if rest ~= "" then line(rest) end
    ended()
  end)
end

return lines
