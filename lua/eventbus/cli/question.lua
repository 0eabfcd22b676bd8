--- A question to the person at the terminal, before something that cannot be undone. Where nobody sits there is no answer.

local question = {}

local function somebody_types()
  local ok, uv = pcall(require, "luv")
  if ok then return uv.guess_handle(0) == "tty" end
  local result = os.execute("test -t 0")
  return result == true or result == 0
end

--- Whether a question can be asked.
---@param cli table
---@return boolean
function question.possible(cli)
  return cli.err.tty and somebody_types()
end

--- True when the answer is yes; anything else, also the end of the input, is no.
---@param cli table
---@param text string
---@return boolean
function question.ask(cli, text)
  cli.err:write(text, " [y/N] ")
  cli.err:flush()
  local answer = io.read("*l")
  return answer ~= nil and answer:lower():match("^%s*y") ~= nil
end

return question
