--- Alerts: what a queue may look like, and what is wrong with how it looks. Pure: a gauge (eventbus.cli.gauges) in,
-- findings out.
--
-- The thresholds are the platform owner's unless the topology's `alerts` or the command line say otherwise: more than
-- 10,000 messages ready, fewer than one consumer, more than 1,000 unacknowledged, a rate four deviations off what was
-- learnt. Dead letters have no consumers by design and are not alerted for that.

local alerts = {}

alerts.DEFAULTS = { depth = 10000, unacked = 1000, consumers = 1, rate = 4 }

--- The metrics, in the order in which they are shown.
alerts.METRICS = { "depth", "unacked", "consumers", "rate" }

--- The worse the higher.
alerts.RANK = { ok = 0, unknown = 1, warning = 2, critical = 3 }

-- States that the management API tells; a queue is otherwise running, idle or in flow.
local BROKEN = { down = true, crashed = true, stopped = true, minority = true }

---@class eventbus.cli.Limits
---@field depth integer|false
---@field unacked integer|false
---@field consumers integer|false  the fewest there must be
---@field rate number|false        deviations
---@field warn number|nil          share of depth and unacked from which on it is a warning

---@class eventbus.cli.Finding
---@field metric string
---@field severity "unknown"|"warning"|"critical"
---@field text string

--- The limits of a queue. `overrides` beat the topology's, but do not switch on what it has switched off.
---@param queue table|nil      normalised, of the topology; nil: not in it
---@param overrides? table     from the command line, with `warn`
---@return eventbus.cli.Limits
function alerts.limits(queue, overrides)
  local own, result = queue and queue.alerts or {}, {}
  overrides = overrides or {}
  for metric, default in pairs(alerts.DEFAULTS) do
    local value = own[metric]
    if value == nil then value = default end
    if overrides[metric] ~= nil and value ~= false then value = overrides[metric] end
    result[metric] = value
  end
  result.warn = overrides.warn
  return result
end

--- 12345 → "12,345".
---@param n number
---@return string
function alerts.grouped(n)
  local text = ("%.0f"):format(n)
  local head, rest = text:match("^(%-?%d%d?%d?)(.*)$")
  while #rest % 3 ~= 0 do
    head, rest = text:sub(1, #head - 1), text:sub(#head)
  end
  return head .. rest:gsub("(%d%d%d)", ",%1")
end

local grouped = alerts.grouped

-- A value above its limit, or above the share of it that warns.
local function above(findings, metric, value, limit, warn, what)
  if not value or not limit then return end
  local severity
  if value > limit then severity = "critical" elseif warn and value > limit * warn then severity = "warning" end
  if not severity then return end
  local passed = severity == "critical" and limit or limit * warn
  findings[#findings + 1] = { metric = metric, severity = severity,
    text = ("%s %s, more than %s"):format(grouped(value), what, grouped(math.floor(passed))) }
end

--- What is wrong with a queue, worst first. What is not known of it is not judged.
---@param gauge eventbus.cli.Gauge
---@param limits eventbus.cli.Limits
---@param verdict? table  of eventbus.cli.baseline
---@return eventbus.cli.Finding[]
function alerts.judge(gauge, limits, verdict)
  if gauge.missing then
    return { { metric = "missing", severity = "critical", text = gauge.missing } }
  end
  if gauge.ready == nil then
    return { { metric = "statistics", severity = "unknown", text = "the broker has no statistics of it"
      .. (gauge.state == "exclusive" and ": it is exclusive to a connection" or " yet") } }
  end
  local findings = {}
  if BROKEN[gauge.state or ""] then
    findings[1] = { metric = "state", severity = "critical", text = "the queue is " .. gauge.state }
  end
  if gauge.consumers and limits.consumers and gauge.consumers < limits.consumers then
    findings[#findings + 1] = { metric = "consumers", severity = "critical",
      text = gauge.consumers == 0 and "no consumers"
        or ("%d consumers, fewer than %d"):format(gauge.consumers, limits.consumers) }
  end
  above(findings, "depth", gauge.ready, limits.depth, limits.warn, "messages ready")
  above(findings, "unacked", gauge.unacked, limits.unacked, limits.warn, "unacknowledged")
  if verdict and verdict.alert then
    findings[#findings + 1] = { metric = "rate", severity = "warning",
      text = ("%.3g/s in, usually %.3g to %.3g at this hour"):format(verdict.rate, verdict.low, verdict.high) }
  end
  table.sort(findings, function(a, b)
    if a.severity ~= b.severity then return alerts.RANK[a.severity] > alerts.RANK[b.severity] end
    return a.metric < b.metric
  end)
  return findings
end

--- The severity of some findings: that of the worst.
---@param findings eventbus.cli.Finding[]
---@return "ok"|"unknown"|"warning"|"critical"
function alerts.severity(findings)
  return findings[1] and findings[1].severity or "ok"
end

return alerts
