--- A doctor's report: findings, each with what it means and what to change.
-- Levels: ok; warn and error are to be changed; unseen is what could not be looked at, and how it could.

local json = require "eventbus.json"
local safe = require("eventbus.cli.text").safe

local report = {}

---@class eventbus.cli.Report
---@field findings table[]  { level, topic, message, change, names }
local Report = {}
Report.__index = Report

function report.new()
  return setmetatable({ findings = json.array(), counts = { ok = 0, warn = 0, error = 0, unseen = 0 } }, Report)
end

-- A list in `message` is cut for people ("%s"), and complete in `names`.
local function add(self, level, topic, message, change, list)
  if list then message = message:format(report.names(list)) end
  self.findings[#self.findings + 1] = { level = level, topic = topic, message = message, change = change,
    names = list and json.array(list) }
  self.counts[level] = self.counts[level] + 1
end

---@param topic string
---@param message string
function Report:ok(topic, message) add(self, "ok", topic, message) end

---@param change string    what to do
---@param list? string[]   what "%s" in the message stands for
function Report:warn(topic, message, change, list) add(self, "warn", topic, message, change, list) end

---@param change string    what to do
---@param list? string[]   what "%s" in the message stands for
function Report:error(topic, message, change, list) add(self, "error", topic, message, change, list) end

---@param change string|nil  how it could be seen
function Report:unseen(topic, message, change) add(self, "unseen", topic, message, change) end

local STYLE = { ok = "green", warn = "yellow", error = "red", unseen = "dim" }

--- Writes it: for people, or as JSON.
---@param cli table
---@param args { json: boolean }
---@param broker string  its address, without a password
function Report:write(cli, args, broker)
  if args.json then
    return cli.out:line(assert(json.encode({ broker = broker, findings = self.findings, counts = self.counts },
      { sort_keys = true })))
  end
  for _, f in ipairs(self.findings) do
    local label = cli.out:style(STYLE[f.level], f.level) .. (" "):rep(8 - #f.level)
    cli.out:paragraph(("%s%-14s%s"):format(label, f.topic, safe(f.message)), 22)
    if f.change then cli.out:paragraph((" "):rep(22) .. "-> " .. f.change, 25) end
  end
  local function of(n, what) return n == 1 and "1 " .. what or ("%d %ss"):format(n, what) end
  cli.out:line(("%s: %d ok, %s, %s, %d not seen"):format(broker, self.counts.ok, of(self.counts.warn, "warning"),
    of(self.counts.error, "error"), self.counts.unseen))
end

--- A list of names as a text, the first few of many.
---@param names string[]
---@return string
function report.names(names)
  local MOST = 6
  if #names <= MOST then return table.concat(names, ", ") end
  return ("%s and %d more"):format(table.concat(names, ", ", 1, MOST), #names - MOST)
end

return report
