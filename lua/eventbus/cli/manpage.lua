--- The man page eventbus(1), made from the parser: what `--help` says, in roff. Pure.
-- It reads the parser's elements as argparse's own completion does.

local manpage = {}

local function roff(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("\n([.'])", "\n\\&%1"):gsub("^([.'])", "\\&%1"))
end

local function names_of(option)
  local names = {}
  for i, name in ipairs(option._aliases) do names[i] = ("\\fB%s\\fR"):format(roff(name)) end
  local value = type(option._argname) == "table" and option._argname[1] or option._argname
  if option._maxargs ~= 0 then
    value = value or option._aliases[#option._aliases]:gsub("^%-+", ""):upper()
    return ("%s \\fI%s\\fR"):format(table.concat(names, ", "), roff(value))
  end
  return table.concat(names, ", ")
end

local function paragraph(lines, text)
  if text then lines[#lines + 1] = roff(text) end
end

-- --help is said once, for all.
local function is_help(option) return option._aliases[#option._aliases] == "--help" end

local function elements(lines, parser)
  for _, argument in ipairs(parser._arguments) do
    lines[#lines + 1] = (".TP\n\\fI%s\\fR"):format(roff(argument._name))
    paragraph(lines, argument._description or "")
  end
  for _, option in ipairs(parser._options) do
    if not option._hidden and not (is_help(option) and parser._parent) then
      lines[#lines + 1] = ".TP\n" .. names_of(option)
      paragraph(lines, option._description or "")
    end
  end
end

-- Examples keep their lines.
local function epilog(lines, parser)
  if not parser._epilog then return end
  lines[#lines + 1] = ".PP\n.nf"
  paragraph(lines, parser._epilog)
  lines[#lines + 1] = ".fi"
end

local function commands(lines, parser, prefix)
  for _, command in ipairs(parser._commands) do
    local name = prefix .. command._name
    lines[#lines + 1] = (".SS %s"):format(roff(name))
    paragraph(lines, command._description)
    elements(lines, command)
    epilog(lines, command)
    commands(lines, command, name .. " ")
  end
end

--- The page of a parser, dated and versioned.
---@param parser table   argparse's
---@param version string
---@param date string    "2024-01-15"
---@return string
function manpage.of(parser, version, date)
  local lines = {
    ('.TH EVENTBUS 1 "%s" "%s" "User Commands"'):format(date, version),
    ".SH NAME", "eventbus \\- reliable events on RabbitMQ",
    ".SH SYNOPSIS", "\\fBeventbus\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]",
    ".SH DESCRIPTION",
  }
  paragraph(lines, parser._description)
  elements(lines, parser)
  lines[#lines + 1] = ".SH COMMANDS"
  commands(lines, parser, "")
  lines[#lines + 1] = ".SH ENVIRONMENT AND EXIT CODES"
  paragraph(lines, parser._epilog)
  return table.concat(lines, "\n") .. "\n"
end

return manpage
