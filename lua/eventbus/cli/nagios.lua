--- The report of a check as Nagios and its kin read it: one line, performance data, then a line per finding.
-- https://nagios-plugins.org/doc/guidelines.html#PLUGOUTPUT. Pure.

local alerts = require "eventbus.cli.alerts"

local nagios = { CODES = { ok = 0, warning = 1, critical = 2, unknown = 3 } }

-- What a plug-in prints is one record: no line breaks, and "|" begins the performance data.
local function plain(text)
  return (tostring(text):gsub("[%c]+", " "):gsub("|", "/"))
end

local function label(queue, metric)
  return "'" .. (plain(queue .. " " .. metric):gsub("=", "-"):gsub("'", "''")) .. "'"
end

local function number(value)
  if value == nil or value == false then return "" end
  if value % 1 == 0 then return ("%.0f"):format(value) end
  return ("%.3f"):format(value)
end

local function datum(queue, metric, value, warn, critical)
  if value == nil then return nil end
  return ("%s=%s;%s;%s;0;"):format(label(queue, metric), number(value), warn, critical)
end

-- 'label'=value;warn;crit;min; a range "1:" alerts below 1, "10000" above 10,000, "3:9" outside.
local function performance(result)
  local g, limits, verdict = result.gauge, result.limits, result.verdict
  local warn = limits.warn
  local list = {}
  local function add(text) if text then list[#list + 1] = text end end
  add(datum(g.name, "depth", g.ready, number(warn and limits.depth and limits.depth * warn), number(limits.depth)))
  add(datum(g.name, "unacked", g.unacked, number(warn and limits.unacked and limits.unacked * warn),
    number(limits.unacked)))
  add(datum(g.name, "consumers", g.consumers, "", limits.consumers and number(limits.consumers) .. ":" or ""))
  if verdict then
    local band = verdict.low and ("%s:%s"):format(number(verdict.low), number(verdict.high)) or ""
    add(datum(g.name, "rate", verdict.rate, band, ""))
  end
  return list
end

---@class eventbus.cli.Result
---@field gauge eventbus.cli.Gauge
---@field limits eventbus.cli.Limits
---@field findings eventbus.cli.Finding[]
---@field verdict table|nil

-- The most that the first line names; the others follow below.
local NAMED = 3

local function said(count, word)
  return ("%d %s%s"):format(count, word, count == 1 and "" or "s")
end

--- The whole output, without the last line break, and the status.
---@param results eventbus.cli.Result[]  in the order to show
---@param notes string[]                 what could not be looked at
---@param more { floor: "unknown"|nil, why: string|nil }  the least status; a last line
---@return string text, "ok"|"warning"|"critical"|"unknown" status
function nagios.report(results, notes, more)
  local status, bad, lines, perf = more.floor or "ok", {}, {}, {}
  for _, result in ipairs(results) do
    local severity = alerts.severity(result.findings)
    if alerts.RANK[severity] > alerts.RANK[status] then status = severity end
    if severity ~= "ok" then bad[#bad + 1] = result end
    for _, text in ipairs(performance(result)) do perf[#perf + 1] = text end
  end
  table.sort(bad, function(a, b)
    local x, y = alerts.RANK[alerts.severity(a.findings)], alerts.RANK[alerts.severity(b.findings)]
    if x ~= y then return x > y end
    return a.gauge.name < b.gauge.name
  end)
  local named = {}
  for i, result in ipairs(bad) do
    if i <= NAMED then named[i] = result.gauge.name .. ": " .. result.findings[1].text end
    for _, finding in ipairs(result.findings) do
      lines[#lines + 1] = ("%s %s: %s"):format(finding.severity:upper(), result.gauge.name, finding.text)
    end
  end
  if #bad > NAMED then named[NAMED + 1] = ("%d more"):format(#bad - NAMED) end
  local text = table.concat(named, "; ")
  if #results == 1 then
    if #bad == 0 then text = results[1].gauge.name .. " is as it should be" end
  elseif #bad == 0 then
    text = said(#results, "queue") .. " as they should be"
  else
    text = ("%d of %s: %s"):format(#bad, said(#results, "queue"), text)
  end
  if #notes > 0 then text = text .. " (" .. table.concat(notes, "; ") .. ")" end
  local first = ("EVENTBUS %s - %s"):format(status:upper(), plain(text))
  if #perf > 0 then first = first .. " | " .. table.concat(perf, " ") end
  lines[#lines + 1] = more.why
  for i, line in ipairs(lines) do lines[i] = plain(line) end
  table.insert(lines, 1, first)
  return table.concat(lines, "\n"), status
end

--- The one line of a check that could not be made.
---@param message string
---@param status "critical"|"unknown"
---@return string
function nagios.failed(message, status)
  return ("EVENTBUS %s - %s"):format(status:upper(), plain(message))
end

return nagios
