--- A question to the person at the terminal, before something that cannot be undone. Where nobody sits there is no answer.

local terminal = require "eventbus.cli.terminal"

local question = {}

--- Whether a question can be asked.
---@param cli table
---@return boolean
function question.possible(cli)
  return cli.err.tty and terminal.new(io.stdin, 0).tty
end

--- True when the answer is yes; anything else, also the end of the input, is no.
---@param cli table
---@param text string
---@return boolean
function question.ask(cli, text)
  cli.err:write(text, " [y/N] ")
  cli.err:flush()
  local answer = io.stdin:read("*l")
  return answer ~= nil and answer:lower():match("^%s*y") ~= nil
end

return question
