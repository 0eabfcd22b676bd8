--- Prometheus' alerting rules for the thresholds of some queues, as YAML. Pure.
-- The metrics are those of rabbitmq_exporter, or of RabbitMQ's own plug-in rabbitmq_prometheus with one object a metric
-- (/metrics/per-object); they differ in names and labels.

local rules = {}

local NAMES = {
  exporter = { unacked = "rabbitmq_queue_messages_unacknowledged", vhost_of_published = "vhost" },
  plugin = { unacked = "rabbitmq_queue_messages_unacked", vhost_of_published = "queue_vhost" },
}
for _, names in pairs(NAMES) do
  names.depth, names.consumers = "rabbitmq_queue_messages_ready", "rabbitmq_queue_consumers"
  names.published = "rabbitmq_queue_messages_published_total"
end

rules.KINDS = { "exporter", "plugin" }

-- A YAML text in double quotes: JSON's escapes are YAML's.
local function quoted(text)
  return (require("eventbus.json").encode(text))
end

-- A PromQL text.
local function matcher(text)
  return '"' .. text:gsub('[\\"]', "\\%0"):gsub("\n", "\\n") .. '"'
end

-- A text in which Prometheus shall expand nothing.
local function literal(text)
  return (text:gsub("{{", '{{"{{"}}'))
end

-- The expression is a sum without labels, so the rule says which queue it is about.
local function rule(lines, name, queue, vhost, expression, wait, severity, summary)
  for _, line in ipairs {
    "      - alert: " .. name,
    "        expr: " .. quoted(expression),
    "        for: " .. wait,
    "        labels:",
    "          severity: " .. severity,
    "          queue: " .. quoted(literal(queue)),
    "          vhost: " .. quoted(literal(vhost)),
    "        annotations:",
    "          summary: " .. quoted(literal(queue) .. summary),
  } do lines[#lines + 1] = line end
end

local function series(metric, label, vhost, queue)
  return ("%s{%s=%s,queue=%s}"):format(metric, label, matcher(vhost), matcher(queue))
end

--- The text of a rules file.
---@param queues { name: string, limits: eventbus.cli.Limits }[]
---@param vhost string
---@param kind "exporter"|"plugin"
---@return string
function rules.text(queues, vhost, kind)
  local metric = NAMES[kind]
  local lines = { "groups:", "  - name: eventbus", "    rules:" }
  for _, queue in ipairs(queues) do
    local name, limits = queue.name, queue.limits
    local function of(what)
      return series(metric[what], what == "published" and metric.vhost_of_published or "vhost", vhost, name)
    end
    -- The plug-in has one series for each channel that publishes; a queue has one sum.
    local function sum(what) return "sum(" .. of(what) .. ")" end
    local function add(alert, ...) rule(lines, "EventbusQueue" .. alert, name, vhost, ...) end
    if limits.depth then
      add("Depth", ("%s > %d"):format(sum "depth", limits.depth), "5m", "critical",
        (" holds {{ $value }} messages, more than %d"):format(limits.depth))
    end
    if limits.consumers then
      add("Consumers", ("%s < %d"):format(sum "consumers", limits.consumers), "5m", "critical",
        (" has {{ $value }} consumers, fewer than %d"):format(limits.consumers))
    end
    if limits.unacked then
      add("Unacked", ("%s > %d"):format(sum "unacked", limits.unacked), "5m", "critical",
        (" has {{ $value }} unacknowledged messages, more than %d"):format(limits.unacked))
    end
    add("Missing", ("absent(%s)"):format(of "depth"), "5m", "critical", " does not exist")
    if limits.rate then
      local rate = ("sum(rate(%s[5m]))"):format(of "published")
      local week = ("(%s)[1w:5m]"):format(rate)
      add("Rate", ("abs(%s - avg_over_time(%s)) > %.14g * stddev_over_time(%s)"):format(rate, week, limits.rate, week),
        "15m", "warning", ": {{ $value }}/s off the mean of the week")
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

return rules
